// What the path of a cgroup tells of who runs in it: container, pod, systemd unit. Words only: nobody is asked.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace hindcast::decode {

/// One line of /proc/PID/cgroup.
struct CgroupLine {
  uint32_t hierarchy = 0;        // 0: version 2
  std::string_view controllers;  // "cpu,cpuacct", "name=systemd"; empty for version 2
  std::string_view path;         // as the daemon's cgroup namespace shows it
};

/// Lines that break the format are left out. Borrows from the text.
std::vector<CgroupLine> parse_cgroup_text(std::string_view text);

/// What is not told is empty.
struct Workload {
  std::string runtime;  // docker, containerd, cri-o, podman, lxc, nspawn, qemu; "?": a container by its id's form alone
  std::string container;  // its id (hexadecimal), or its name (lxc, nspawn)
  std::string pod;        // Kubernetes: its uid, with dashes; a static pod's has none
  std::string qos;        // of the pod: guaranteed, burstable, besteffort
  std::string unit;       // systemd: the innermost .service or .scope outside of any container, unescaped
  std::string slice;      // and its slice
  bool empty() const { return container.empty() && pod.empty() && unit.empty(); }
  bool operator==(const Workload&) const = default;
};

/// Of containers inside of containers the innermost. Forms: systemd and cgroupfs drivers of Docker, containerd, CRI-O, Podman,
/// the kubelet; lxc, systemd-nspawn, machined, systemd.
Workload workload_of(std::string_view path);

/// The line that tells most: the first with a container or a pod, else with a unit, else with a path below the root; of
/// version 2 first, then systemd's own, then as they stand. Null when there is none.
const CgroupLine* telling_line(const std::vector<CgroupLine>& lines);

/// A few words for a table: "pod 1f2e3d4c / container ab12cd34ef56", "redis.service", a path.
std::string short_name(const Workload& workload, std::string_view path);

}  // namespace hindcast::decode
