// Preloaded into one program: its wall clock is another one, by HC_FAKE_CLOCK = "ANCHOR OFFSET PPM": at the real time ANCHOR
// (ns since 1970) it is OFFSET ns ahead, and from then on it goes PPM millionths too fast. What the program starts has the real
// clock again.
#include <dlfcn.h>
#include <sys/time.h>
#include <time.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

namespace {

int64_t anchor_ns = 0, offset_ns = 0;
double ppm = 0;

using Real = int (*)(clockid_t, timespec*);
Real real() {
  static const auto found = reinterpret_cast<Real>(::dlsym(RTLD_NEXT, "clock_gettime"));
  return found;
}

__attribute__((constructor)) void begin() {
  if (const char* words = ::getenv("HC_FAKE_CLOCK")) {
    long long anchor = 0, offset = 0;
    if (std::sscanf(words, "%lld %lld %lf", &anchor, &offset, &ppm) != 3) std::abort();
    anchor_ns = anchor;
    offset_ns = offset;
  }
  ::unsetenv("LD_PRELOAD");
  ::unsetenv("HC_FAKE_CLOCK");
}

}  // namespace

extern "C" int clock_gettime(clockid_t clock, timespec* t) noexcept {
  const int r = real()(clock, t);
  if (r != 0 || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE)) return r;
  const int64_t now = t->tv_sec * int64_t{1000000000} + t->tv_nsec;
  const int64_t fake = now + offset_ns + static_cast<int64_t>(static_cast<double>(now - anchor_ns) * ppm / 1e6);
  t->tv_sec = fake / 1000000000;
  t->tv_nsec = fake % 1000000000;
  return 0;
}

extern "C" int gettimeofday(timeval* tv, void*) noexcept {
  timespec t{};
  clock_gettime(CLOCK_REALTIME, &t);
  tv->tv_sec = t.tv_sec;
  tv->tv_usec = t.tv_nsec / 1000;
  return 0;
}

extern "C" time_t time(time_t* out) noexcept {
  timespec t{};
  clock_gettime(CLOCK_REALTIME, &t);
  if (out) *out = t.tv_sec;
  return t.tv_sec;
}
