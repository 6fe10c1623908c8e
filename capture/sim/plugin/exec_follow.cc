// SPDX-License-Identifier: MIT
#include "capture/sim/plugin/exec_follow.h"

#include <algorithm>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include <elf.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "capture/sim/plugin/guest_memory.h"

namespace hindcast::sim {
namespace {

constexpr size_t kMaxPath = 4096;
constexpr size_t kMaxString = 128 * 1024;  // MAX_ARG_STRLEN of Linux
constexpr size_t kMaxStrings = 1u << 20;
constexpr int kMaxScripts = 5;   // BINPRM recursion limit
constexpr int kHeadBytes = 256;  // BINPRM_BUF_SIZE
constexpr int kCarriedFdFrom = 900;
constexpr const char* kCloseFdOption = ",closefd=";  // of this plugin; always the last

std::string read_link(const std::string& path) {
  char text[kMaxPath];
  const ssize_t n = readlink(path.c_str(), text, sizeof text);
  return n > 0 && n < static_cast<ssize_t>(sizeof text) ? std::string(text, static_cast<size_t>(n)) : std::string();
}

bool read_strings(uint64_t address, std::vector<std::string>& strings) {
  if (address == 0) return true;
  for (;; address += 8) {
    uint64_t p = 0;
    if (!read_guest(address, p)) return false;
    if (p == 0) return true;
    std::string s;
    if (strings.size() == kMaxStrings || !read_guest_string(p, s, kMaxString)) return false;
    strings.push_back(std::move(s));
  }
}

// The guest's own executable has several names; to QEMU they all mean QEMU.
bool names_own_exe(const std::string& path) {
  const std::string pid = std::to_string(getpid());
  return path == "/proc/self/exe" || path == "/proc/thread-self/exe" || path == "/proc/" + pid + "/exe";
}

// "#! interpreter [argument]", as linux/fs/binfmt_script.c splits it.
bool split_script(std::string_view head, std::string& interpreter, std::string& argument) {
  const size_t line_end = head.find('\n');
  if (line_end == std::string_view::npos && head.size() == kHeadBytes) return false;  // the kernel refuses a cut path
  std::string_view line = head.substr(2, line_end == std::string_view::npos ? line_end : line_end - 2);
  constexpr std::string_view kBlank = " \t";
  const auto trim = [&](std::string_view s) {
    const size_t a = s.find_first_not_of(kBlank);
    if (a == std::string_view::npos) return std::string_view();
    return s.substr(a, s.find_last_not_of(kBlank) - a + 1);
  };
  line = trim(line.substr(0, line.find('\0')));
  const size_t split = line.find_first_of(kBlank);
  interpreter = line.substr(0, split);
  argument = split == std::string_view::npos ? std::string() : std::string(trim(line.substr(split)));
  return !interpreter.empty();
}

// Follows scripts to the program behind them and fills request.target, .path and .argv.
void resolve(std::string path, ExecRequest& request) {
  for (int depth = 0; depth < kMaxScripts; ++depth) {
    struct stat st {};
    if (stat(path.c_str(), &st) != 0 || !S_ISREG(st.st_mode) ||
        faccessat(AT_FDCWD, path.c_str(), X_OK, AT_EACCESS) != 0) {
      request.target = ExecTarget::fails;
      return;
    }
    const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
      request.target = ExecTarget::foreign;  // may be run but not read: QEMU could not load it
      return;
    }
    alignas(Elf64_Ehdr) char head[kHeadBytes] = {};
    const ssize_t n = pread(fd, head, sizeof head, 0);
    close(fd);
    if (n >= 2 && head[0] == '#' && head[1] == '!') {
      std::string interpreter, argument;
      if (!split_script({head, static_cast<size_t>(n)}, interpreter, argument)) {
        request.target = ExecTarget::fails;
        return;
      }
      std::vector<std::string> argv{interpreter};
      if (!argument.empty()) argv.push_back(argument);
      argv.push_back(path);
      if (!request.argv.empty()) argv.insert(argv.end(), request.argv.begin() + 1, request.argv.end());
      request.argv = std::move(argv);
      path = interpreter;
      continue;
    }
    Elf64_Ehdr elf;
    std::memcpy(&elf, head, sizeof elf);
    const bool ours = n >= static_cast<ssize_t>(sizeof elf) && std::memcmp(elf.e_ident, ELFMAG, SELFMAG) == 0 &&
                      elf.e_ident[EI_CLASS] == ELFCLASS64 && elf.e_machine == EM_X86_64 &&
                      (elf.e_type == ET_EXEC || elf.e_type == ET_DYN);
    request.target = ours ? ExecTarget::follow : ExecTarget::foreign;
    request.path = path;
    return;
  }
  request.target = ExecTarget::fails;
}

// Variables that would act on QEMU itself (its loader, its C library, its own options) when they stand in its
// environment; QEMU can set them for the guest alone.
bool acts_on_qemu(std::string_view variable) {
  for (std::string_view p : {"LD_", "QEMU_", "GLIBC_TUNABLES=", "MALLOC_", "G_", "GCONV_PATH=", "GNUTLS_"}) {
    if (variable.substr(0, p.size()) == p) return true;
  }
  return false;
}

}  // namespace

QemuCommand read_qemu_command() {
  QemuCommand command;
  command.path = read_link("/proc/self/exe");
  std::string all;
  const int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
  char chunk[4096];
  for (ssize_t n; fd >= 0 && (n = read(fd, chunk, sizeof chunk)) > 0;) all.append(chunk, static_cast<size_t>(n));
  if (fd >= 0) close(fd);
  std::vector<std::string> args;
  for (size_t at = 0; at < all.size();) {
    const size_t end = std::min(all.find('\0', at), all.size());
    args.push_back(all.substr(at, end - at));
    at = end + 1;
  }
  // QEMU's options end at the first word without a dash: the program (linux-user/main.c, parse_args).
  for (size_t i = 1; i < args.size() && args[i].size() > 1 && args[i][0] == '-'; ++i) {
    const std::string name = args[i].substr(args[i][1] == '-' ? 2 : 1);
    if (name == "singlestep" || name == "strace") {
      command.options.push_back(args[i]);
      continue;
    }
    if (i + 1 == args.size()) break;
    if (name != "0" && name != "E" && name != "U" && name != "g") {
      command.options.push_back(args[i]);
      command.options.push_back(args[i + 1].substr(0, args[i + 1].find(kCloseFdOption)));
    }
    ++i;
  }
  return command;
}

ExecRequest read_exec_request(int64_t number, const uint64_t* args, const std::string& own_path) {
  ExecRequest request;
  const bool at = number == SYS_execveat;
  std::string path;
  if (!read_guest_string(args[at ? 1 : 0], path, kMaxPath)) return request;
  if (!read_strings(args[at ? 2 : 1], request.argv) || !read_strings(args[at ? 3 : 2], request.envp)) return request;
  if (request.argv.empty()) request.argv.emplace_back();  // as Linux does since 5.18

  const int directory = at ? static_cast<int>(args[0]) : AT_FDCWD;
  const uint64_t flags = at ? args[4] : 0;
  if (names_own_exe(path)) path = own_path;
  if (path.empty()) {
    if (!(flags & AT_EMPTY_PATH)) return request;
    // A program that is a descriptor: by its name while it has one that is still the same file, else the descriptor
    // itself, kept open over the exec.
    const std::string link = "/proc/self/fd/" + std::to_string(directory);
    struct stat by_fd {
    }, by_name{};
    path = read_link(link);
    if (fstat(directory, &by_fd) != 0) return request;
    if (path.empty() || stat(path.c_str(), &by_name) != 0 || by_fd.st_dev != by_name.st_dev ||
        by_fd.st_ino != by_name.st_ino) {
      request.carried_fd = fcntl(directory, F_DUPFD, kCarriedFdFrom);
      if (request.carried_fd < 0) return request;
      path = "/proc/self/fd/" + std::to_string(request.carried_fd);
    }
  } else if (path[0] != '/' && directory != AT_FDCWD) {
    path = "/proc/self/fd/" + std::to_string(directory) + "/" + path;
    char real[PATH_MAX];
    if (!realpath(path.c_str(), real)) return request;
    path = real;
  }
  if (flags & AT_SYMLINK_NOFOLLOW) {
    struct stat st {};
    if (lstat(path.c_str(), &st) != 0 || S_ISLNK(st.st_mode)) return request;
  }
  resolve(path, request);
  return request;
}

void qemu_start(const QemuCommand& qemu, const ExecRequest& request, std::vector<std::string>& argv,
                std::vector<std::string>& envp) {
  argv = {qemu.path};
  argv.insert(argv.end(), qemu.options.begin(), qemu.options.end());
  for (size_t i = 1; request.carried_fd >= 0 && i + 1 < argv.size(); ++i) {
    if (argv[i] == "-plugin") argv[i + 1] += kCloseFdOption + std::to_string(request.carried_fd);
  }
  for (const std::string& variable : request.envp) {
    // -E takes a list: a value with a comma stays where it also acts on QEMU.
    if (acts_on_qemu(variable) && variable.find(',') == std::string::npos) {
      argv.insert(argv.end(), {"-E", variable});
    } else {
      envp.push_back(variable);
    }
  }
  const bool like_option = request.path[0] == '-';
  argv.insert(argv.end(), {"-0", request.argv[0], (like_option ? "./" : "") + request.path});
  argv.insert(argv.end(), request.argv.begin() + 1, request.argv.end());
}

void exec_under_qemu(const QemuCommand& qemu, const ExecRequest& request) {
  std::vector<std::string> argv, envp;
  qemu_start(qemu, request, argv, envp);
  std::vector<char*> argv_pointers, envp_pointers;
  for (auto& s : argv) argv_pointers.push_back(s.data());
  for (auto& s : envp) envp_pointers.push_back(s.data());
  argv_pointers.push_back(nullptr);
  envp_pointers.push_back(nullptr);
  execve(qemu.path.c_str(), argv_pointers.data(), envp_pointers.data());
  if (request.carried_fd >= 0) close(request.carried_fd);
}

}  // namespace hindcast::sim
