// Reads and writes the text files of keys.h.
#include "transport/keys.h"

#include <zmq.h>

#include <algorithm>
#include <cstring>

#include "hindcast/fd.h"
#include "transport/names.h"

namespace hindcast::transport {
namespace {

constexpr size_t kKeyText = 40;
constexpr off_t kMostFileBytes = off_t{4} << 20;

std::string_view next_line(std::string_view& text) {
  const size_t end = text.find('\n');
  std::string_view line = text.substr(0, end);
  text = end == text.npos ? std::string_view{} : text.substr(end + 1);
  while (!line.empty() && (line.back() == '\r' || line.back() == ' ' || line.back() == '\t')) line.remove_suffix(1);
  while (!line.empty() && (line.front() == ' ' || line.front() == '\t')) line.remove_prefix(1);
  return line;
}

/// "WORD rest" at the first blank; rest is empty when there is none.
std::pair<std::string_view, std::string_view> split(std::string_view line) {
  const size_t blank = line.find_first_of(" \t");
  if (blank == line.npos) return {line, {}};
  std::string_view rest = line.substr(blank);
  while (!rest.empty() && (rest.front() == ' ' || rest.front() == '\t')) rest.remove_prefix(1);
  return {line.substr(0, blank), rest};
}

std::string printable(std::string_view s) {
  std::string out = "'";
  for (const char c : s.substr(0, 40)) out += c >= 0x20 && c < 0x7f ? c : '?';
  return out + (s.size() > 40 ? "...'" : "'");
}

std::string octal(mode_t mode) {
  char text[8];
  std::snprintf(text, sizeof text, "%04o", static_cast<unsigned>(mode & 07777));
  return text;
}

Result<void> write_new(const std::string& path, const std::string& text, mode_t mode) {
  Fd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode));
  if (!fd.valid()) {
    if (errno == EEXIST)
      return Error{Errc::usage,
                   "cannot write " + path + ": it exists, and a key is never overwritten",
                   {},
                   "choose another name, or remove it when nothing uses that key any more"};
    return errno_error("cannot create", path);
  }
  // The umask may have taken bits that a public key needs; it cannot have added any.
  if (::fchmod(fd.get(), mode) != 0 ||
      ::write(fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()) || ::fsync(fd.get()) != 0) {
    Error e = errno_error("cannot write", path);
    ::unlink(path.c_str());
    return e;
  }
  return {};
}

/// The whole file, when nobody in `forbidden` (mode bits) may touch it.
Result<std::string> read_text(const std::string& path, mode_t forbidden, const char* who, const char* fix_mode) {
  HC_TRY(Fd fd, open_read_only(path));
  struct stat st {};
  if (::fstat(fd.get(), &st) != 0) return errno_error("cannot stat", path);
  if (!S_ISREG(st.st_mode)) return Error{Errc::bad_input, "cannot read " + path + ": not a regular file", {}, {}};
  if (st.st_mode & forbidden)
    return Error{Errc::permission, "cannot trust " + path + ": others than its owner may " + who + " it",
                 "mode " + octal(st.st_mode) + "; needed: none of the bits " + octal(forbidden),
                 std::string("chmod ") + fix_mode + " " + path};
  if (st.st_size > kMostFileBytes)
    return Error{Errc::too_large,
                 "cannot read " + path + ": it is too long",
                 std::to_string(st.st_size) + " bytes; at most " + std::to_string(kMostFileBytes),
                 {}};
  std::string text(static_cast<size_t>(st.st_size), '\0');
  size_t have = 0;
  while (have < text.size()) {
    const ssize_t n = ::read(fd.get(), text.data() + have, text.size() - have);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno_error("cannot read", path);
    if (n == 0) break;
    have += static_cast<size_t>(n);
  }
  text.resize(have);
  return text;
}

Result<KeyPair> parse_key_file(const std::string& path, std::string_view text, bool secret) {
  KeyPair keys;
  std::string wrong;
  const auto complain = [&](const std::string& s) { wrong += (wrong.empty() ? "" : "; ") + s; };
  size_t number = 0;
  while (!text.empty()) {
    const std::string_view line = next_line(text);
    ++number;
    if (line.empty() || line[0] == '#') continue;
    const auto [word, key] = split(line);
    const std::string where = "line " + std::to_string(number) + ": ";
    std::string* to = word == "public" ? &keys.public_key : word == "secret" ? &keys.secret_key : nullptr;
    if (!to)
      complain(where + "begins with neither 'public' nor 'secret'");  // not shown: it may be a key gone astray
    else if (!is_key(key))
      complain(where + "no Z85 key of 40 characters after '" + std::string(word) + "'");
    else if (!to->empty())
      complain(where + "a second '" + std::string(word) + "'");
    else
      *to = std::string(key);
  }
  if (keys.public_key.empty() && wrong.empty()) complain("no 'public' line");
  if (secret && keys.secret_key.empty() && wrong.empty()) complain("no 'secret' line");
  if (!secret && !keys.secret_key.empty()) complain("a 'secret' line in a file that is given to others");
  if (secret && wrong.empty()) {
    char derived[kKeyText + 1] = {};
    if (::zmq_curve_public(derived, keys.secret_key.c_str()) != 0 || keys.public_key != derived)
      complain("its public key does not belong to its secret key");
  }
  if (wrong.empty()) return keys;
  return Error{Errc::bad_input, "cannot use the key file " + path, wrong,
               secret ? "make a new pair with hindcast keygen" : "copy the .public file that hindcast keygen wrote"};
}

}  // namespace

bool is_key(std::string_view text) {
  if (text.size() != kKeyText) return false;
  for (const char c : text)
    if (c <= 0x20 || c >= 0x7f) return false;  // zmq_z85_decode looks such bytes up beyond its table
  uint8_t bytes[32];
  return ::zmq_z85_decode(bytes, std::string(text).c_str()) != nullptr;
}

KeyPair make_key_pair() {
  char public_key[kKeyText + 1] = {}, secret_key[kKeyText + 1] = {};
  HC_CHECK(::zmq_curve_keypair(public_key, secret_key) == 0);  // fails only where libzmq lacks CURVE; Debian's has it
  return {public_key, secret_key};
}

Result<void> write_key_files(const std::string& path, const KeyPair& keys) {
  const std::string secret_path = path + ".secret", public_path = path + ".public";
  HC_TRY_VOID(write_new(secret_path,
                        "# Hindcast CURVE key pair: whoever reads this file can speak as its owner\npublic " +
                            keys.public_key + "\nsecret " + keys.secret_key + "\n",
                        0600));
  auto written = write_new(
      public_path, "# Hindcast CURVE public key: give it to the other side\npublic " + keys.public_key + "\n", 0644);
  if (!written) {
    ::unlink(secret_path.c_str());
    return written;
  }
  const size_t slash = path.rfind('/');
  const std::string folder = slash == path.npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
  Fd dir(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!dir.valid() || ::fsync(dir.get()) != 0) return errno_error("cannot make the names durable in", folder);
  return {};
}

Result<KeyPair> read_secret_key_file(const std::string& path) {
  HC_TRY(const std::string text, read_text(path, 077, "read or change", "600"));
  return parse_key_file(path, text, true);
}

Result<std::string> read_public_key_file(const std::string& path) {
  HC_TRY(const std::string text, read_text(path, 022, "change", "go-w"));
  HC_TRY(KeyPair keys, parse_key_file(path, text, false));
  return std::move(keys.public_key);
}

Result<AllowList> AllowList::parse(std::string_view text, const std::string& origin) {
  AllowList list;
  std::string wrong;
  size_t number = 0, findings = 0;
  const auto complain = [&](const std::string& s) {
    constexpr size_t kMost = 20;
    if (++findings <= kMost) wrong += (wrong.empty() ? "" : "; ") + ("line " + std::to_string(number)) + ": " + s;
    if (findings == kMost + 1) wrong += "; and more";
  };
  while (!text.empty()) {
    const std::string_view line = next_line(text);
    ++number;
    if (line.empty() || line[0] == '#') continue;
    const auto [host, key] = split(line);
    if (!is_name(host)) complain(printable(host) + " is no host name");
    if (!is_key(key))
      complain("no Z85 key of 40 characters after the host name");
    else if (const std::string* owner = list.host_of(std::string(key)))
      complain("the key is already that of " + printable(*owner));
    else if (is_name(host))
      list.hosts_.emplace(key, host);
  }
  if (wrong.empty()) return list;
  return Error{Errc::bad_input, "cannot use the list of allowed keys " + origin, wrong,
               std::string("each line is HOST KEY; a host name has ") + kNameRule};
}

Result<AllowList> AllowList::read_file(const std::string& path) {
  HC_TRY(const std::string text, read_text(path, 022, "change", "go-w"));
  return parse(text, path);
}

const std::string* AllowList::host_of(const std::string& public_key) const {
  const auto it = hosts_.find(public_key);
  return it == hosts_.end() ? nullptr : &it->second;
}

bool AllowList::add(const std::string& host, const std::string& public_key) {
  return is_name(host) && is_key(public_key) && hosts_.emplace(public_key, host).second;
}

bool AllowList::revoke(const std::string& public_key) { return hosts_.erase(public_key) != 0; }

std::vector<std::string> AllowList::hosts() const {
  std::vector<std::string> names;
  for (const auto& [key, host] : hosts_) names.push_back(host);
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return names;
}

}  // namespace hindcast::transport
