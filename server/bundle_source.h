// The streams and images of one snapshot of a bundle, as decoding wants them: whole and kept while somebody holds them.
#pragma once

#include <map>
#include <memory>

#include "hindcast/decoder.h"
#include "server/scan_store.h"
#include "transport/bundle_reader.h"

namespace hindcast::server {

/// A PT stream with damaged chunks is handed out all the same, its broken ranges filled with kDamageFill, a byte that
/// begins no packet; each is a hole. Damaged sideband is cut at the first broken byte, since records cannot be found
/// again behind it: a hole at its end, as where the file itself was cut. Damaged images are an error, but in parts.
class BundleSource : public ByteSource {
 public:
  /// The reader is borrowed for the object's life, scans too; nullptr: none are kept.
  BundleSource(const transport::BundleReader& reader, size_t snapshot, const ScanStore* scans = nullptr)
      : reader_(reader), snapshot_(snapshot), scans_(scans) {}

  Result<SharedBytes> stream(uint32_t id) override;
  Result<SharedBytes> image(uint32_t id) override;
  /// Chunks that are found damaged later are in damage(), too, while somebody has the stream or image.
  Result<std::shared_ptr<StreamBytes>> stream_in_parts(uint32_t id) override;
  Result<std::shared_ptr<StreamBytes>> image_in_parts(uint32_t id) override;
  /// Of streams of kFewestToKeep bytes or more. Any thread.
  std::optional<std::vector<uint8_t>> kept(uint32_t id) override;
  void keep(uint32_t id, const std::function<std::vector<uint8_t>()>& make) override;

  static constexpr uint64_t kFewestToKeep = uint64_t{4} << 20;  // fewer are scanned as soon as read

  static constexpr uint8_t kDamageFill = transport::StreamParts::kDamageFill;

  /// What was found broken while handing out bytes, beyond what opening the bundle showed.
  std::vector<transport::BundleReader::Damage> damage() const;

 private:
  using Bytes = std::vector<uint8_t>;
  using PartsById = std::map<uint32_t, std::weak_ptr<transport::StreamParts>>;
  struct Stream {
    Bytes bytes;
    std::vector<uint64_t> holes;
  };
  using OpenParts = Result<std::shared_ptr<transport::StreamParts>> (transport::BundleReader::*)(size_t,
                                                                                                 uint32_t) const;
  Result<std::shared_ptr<StreamBytes>> in_parts(uint32_t id, PartsById& all, OpenParts open);
  std::optional<std::string> scan_key(uint32_t id) const;
  void note(const transport::BundleReader::Damage& damage);
  Result<Stream> read_damaged(uint32_t id, const Error& why);

  const transport::BundleReader& reader_;
  size_t snapshot_;
  const ScanStore* const scans_;
  PartsById parts_, image_parts_;
  std::map<uint32_t, std::weak_ptr<const Stream>> streams_;
  std::vector<transport::BundleReader::Damage> damage_;
};

}  // namespace hindcast::server
