// CURVE keys in files, and the list of client keys that a server accepts.
//
// Key file:    text lines. "#..." comments and empty lines are skipped; "public KEY" in both files, "secret KEY" in
//              the secret one. KEY is 40 characters of Z85 (ZeroMQ RFC 32).
// Allow-list:  text lines "HOST KEY": the name that the holder of the public KEY is known by, whatever it says of
//              itself. A host may have several keys while one is being replaced; a key belongs to one host.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "hindcast/result.h"

namespace hindcast::transport {

struct KeyPair {
  std::string public_key;  // Z85, 40 characters
  std::string secret_key;
};

KeyPair make_key_pair();

/// Writes PATH.secret (mode 0600) and PATH.public, both durable. Errors: io, permission; usage when either exists: a key
/// is never overwritten.
Result<void> write_key_files(const std::string& path, const KeyPair& keys);

/// Reads a secret key file. Errors: with all that is wrong at once; permission when others than its owner may read it.
Result<KeyPair> read_secret_key_file(const std::string& path);
Result<std::string> read_public_key_file(const std::string& path);

class AllowList {
 public:
  /// Errors: bad_input with every bad line at once. `origin` names the text in messages.
  static Result<AllowList> parse(std::string_view text, const std::string& origin);
  /// Errors: also permission, when others than its owner may write the file: they could add themselves.
  static Result<AllowList> read_file(const std::string& path);

  /// The host that a public key (Z85) belongs to; nullptr: nobody's.
  const std::string* host_of(const std::string& public_key) const;
  bool add(const std::string& host, const std::string& public_key);  // false: not a name, not a key, or taken
  bool revoke(const std::string& public_key);
  size_t size() const { return hosts_.size(); }
  std::vector<std::string> hosts() const;  // that it names, each once, in order

 private:
  std::map<std::string, std::string> hosts_;  // by public key
};

/// 40 characters that decode as Z85.
bool is_key(std::string_view text);

}  // namespace hindcast::transport
