// Tells systemd how a service of Type=notify is: sd_notify(3) without its library.
#pragma once

namespace hindcast::transport {

/// state: "READY=1", "STOPPING=1", "STATUS=words" ... Nothing is done, and nothing said, when another than systemd started
/// us: then NOTIFY_SOCKET is not set.
void notify_service(const char* state);

}  // namespace hindcast::transport
