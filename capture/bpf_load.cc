#include "capture/bpf_load.h"

#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>

#include <bpf/bpf.h>
#include <xdp/libxdp.h>

#include "capture/text_file.h"

namespace hindcast::capture {

namespace {

thread_local std::string last_words;

int keep_words(const char* format, va_list arguments) {
  char text[512];
  std::vsnprintf(text, sizeof text, format, arguments);
  last_words = text;
  while (!last_words.empty() && last_words.back() == '\n') last_words.pop_back();
  const size_t line = last_words.find('\n');
  if (line != std::string::npos) last_words.resize(line);
  return 0;
}

int of_libbpf(libbpf_print_level level, const char* format, va_list arguments) {
  return level == LIBBPF_WARN ? keep_words(format, arguments) : 0;
}
int of_libxdp(libxdp_print_level level, const char* format, va_list arguments) {
  return level == LIBXDP_WARN ? keep_words(format, arguments) : 0;
}

}  // namespace

void hush_bpf() {
  last_words.clear();
  libbpf_set_print(of_libbpf);
  libxdp_set_print(of_libxdp);
}

Error bpf_refused(int error, const std::string& proc, const std::string& what, const BpfNeeds& needs) {
  const bool permission = error == EPERM || error == EACCES;
  std::string found = std::strerror(error);
  if (!last_words.empty()) found += "; " + last_words;
  if (permission) {
    const auto setting = read_text_file(proc + "/sys/kernel/unprivileged_bpf_disabled", 64);
    found += "; kernel.unprivileged_bpf_disabled = " + (setting ? trimmed(*setting) : std::string("unreadable"));
  }
  return Error{
      permission ? Errc::permission : Errc::unavailable, what, std::move(found),
      permission ? std::string("run as root, or: setcap ") + needs.capabilities + "+ep HINDCASTD" : needs.kernel};
}

BpfCost cost_of(const bpf_object* programs) {
  BpfCost cost;
  bpf_program* program = nullptr;
  bpf_object__for_each_program(program, programs) {
    bpf_prog_info info{};
    uint32_t size = sizeof info;
    if (bpf_obj_get_info_by_fd(bpf_program__fd(program), &info, &size) != 0) continue;
    cost.runs += info.run_cnt;
    cost.ns += info.run_time_ns;
    cost.missed += info.recursion_misses;
  }
  return cost;
}

int BpfRing::open(int map_fd, size_t bytes) {
  state_->bytes = bytes;
  ring_.reset(ring_buffer__new(map_fd, take, state_.get(), nullptr));
  return ring_ ? 0 : errno;
}

int BpfRing::take(void* state, void* data, size_t size) {
  auto& s = *static_cast<State*>(state);
  (*s.sink)({static_cast<const uint8_t*>(data), size});
  s.taken += size;
  return s.taken < s.bytes ? 0 : -ECANCELED;
}

void BpfRing::drain(const std::function<void(ByteSpan)>& sink) {
  state_->sink = &sink;
  state_->taken = 0;
  ring_buffer__consume(ring_.get());  // its only error is that of take(), which ends it
  state_->sink = nullptr;
}

}  // namespace hindcast::capture
