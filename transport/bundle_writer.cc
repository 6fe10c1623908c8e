// Writes chunks front to back, remembers where they went, ends with index and trailer.
#include "transport/bundle_writer.h"

#include <sys/file.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <vector>

#include "hindcast/bundle_format.h"
#include "transport/chunk_codec.h"
#include "transport/manifest.h"
#include "transport/snapshot_rules.h"

namespace hindcast::transport {
namespace {

using bundle::ChunkType;

// A decoder reads here and there: a chunk is what it unpacks to see one instruction or one packet. Larger ones pack hardly
// better: 1 MiB saves 3.5 % of code, and 0.5 % of PT.
constexpr size_t kImageChunkBytes = size_t{64} << 10;
constexpr size_t kChunkBytes = size_t{256} << 10;
static_assert(kChunkBytes <= bundle::kMaxChunkRawBytes);

// The disk gets its work while the rest is compressed, so that the fsync at the end has little left to wait for.
constexpr uint64_t kWriteBackBytes = uint64_t{4} << 20;

Result<void> write_all(const Fd& fd, ByteSpan bytes, const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd.get(), bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno_error("cannot write", path, "free some space, or choose another file with -o");
    bytes = bytes.subspan(static_cast<size_t>(n));
  }
  return {};
}

template <class T>
ByteSpan bytes_of(const T& v) {
  return {reinterpret_cast<const uint8_t*>(&v), sizeof(T)};
}

std::string folder_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == path.npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

/// Creates or takes over "PATH.partial", locked: two writers of one path must not mix their bytes.
Result<Fd> open_partial(const std::string& partial) {
  Fd fd(::open(partial.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd.valid()) return errno_error("cannot create", partial, "choose another file with -o");
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0)
    return Error{Errc::io,
                 "cannot write " + partial + ": another process is writing it",
                 {},
                 "wait for it, or choose another file with -o"};
  // Between our open and our lock another writer may have finished and renamed the file that we now hold.
  struct stat ours {
  }, named{};
  if (::fstat(fd.get(), &ours) != 0 || ::stat(partial.c_str(), &named) != 0 || ours.st_ino != named.st_ino ||
      ours.st_dev != named.st_dev)
    return Error{Errc::io, "cannot write " + partial + ": another process has just finished with it", {}, "try again"};
  if (::ftruncate(fd.get(), 0) != 0) return errno_error("cannot empty", partial);
  return fd;
}

}  // namespace

struct BundleWriter::Impl {
  std::string path, partial;
  Fd fd;
  ChunkEncoder encoder;
  uint64_t position = 0;
  uint64_t written_back = 0;  // the kernel was asked to write the file up to here
  std::vector<bundle::IndexEntry> index;
  uint32_t snapshot = 0;
  bool begun = false;   // begin_snapshot was called or something was appended
  bool failed = false;  // an earlier error left a hole: the file cannot become a bundle
  // Bytes that share the next chunk; all of one stream or image.
  ChunkType pending_type = ChunkType::stream;
  uint32_t pending_id = 0;
  std::vector<uint8_t> pending;
  // Raw bytes written per stream and image, pending ones not included.
  std::map<std::pair<ChunkType, uint32_t>, uint64_t> written;

  ~Impl() {
    if (!partial.empty() && fd.valid()) ::unlink(partial.c_str());
  }

  Result<void> put(ByteSpan bytes) {
    auto r = write_all(fd, bytes, partial);
    if (!r) failed = true;
    position += bytes.size();
    if (position - written_back >= kWriteBackBytes) {
      // Only a hint: what it cannot do, fsync does.
      (void)::sync_file_range(fd.get(), static_cast<off64_t>(written_back),
                              static_cast<off64_t>(position - written_back), SYNC_FILE_RANGE_WRITE);
      written_back = position;
    }
    return r;
  }

  Result<void> put_chunk(ChunkType type, uint32_t id, uint64_t offset, ByteSpan raw) {
    if (type != ChunkType::index && index.size() == bundle::kMaxChunks) {
      failed = true;
      return Error{Errc::too_large, "cannot write " + path + ": too many chunks", {}, "split it into several bundles"};
    }
    bundle::ChunkHeader header{};
    header.type = static_cast<uint8_t>(type);
    header.snapshot = snapshot;
    header.id = id;
    header.offset = offset;
    const ByteSpan stored = encoder.encode(raw, header);
    if (type != ChunkType::index) index.push_back({position, header});
    HC_TRY_VOID(put(bytes_of(header)));
    return put(stored);
  }

  /// A blob that has no id and may need several chunks.
  Result<void> put_blob(ChunkType type, ByteSpan raw) {
    for (uint64_t at = 0; at < raw.size();) {
      const size_t n = std::min<size_t>(kChunkBytes, raw.size() - at);
      HC_TRY_VOID(put_chunk(type, 0, at, raw.subspan(at, n)));
      at += n;
    }
    return {};
  }

  /// A chunk of the stream or image that pending_type and pending_id name.
  Result<void> put_data(ByteSpan raw) {
    uint64_t& offset = written[{pending_type, pending_id}];
    HC_TRY_VOID(put_chunk(pending_type, pending_id, offset, raw));
    offset += raw.size();
    return {};
  }

  Result<void> flush() {
    if (pending.empty()) return {};
    HC_TRY_VOID(put_data(pending));
    pending.clear();
    return {};
  }

  Result<void> append(ChunkType type, uint32_t id, ByteSpan bytes) {
    HC_TRY_VOID(usable());
    if (id == 0) return refuse("ids begin at 1");
    begun = true;
    if (pending_type != type || pending_id != id) HC_TRY_VOID(flush());
    pending_type = type;
    pending_id = id;
    const size_t whole = type == ChunkType::image ? kImageChunkBytes : kChunkBytes;
    while (!bytes.empty()) {
      if (pending.empty() && bytes.size() >= whole) {  // no copy for what fills a chunk by itself
        HC_TRY_VOID(put_data(bytes.first(whole)));
        bytes = bytes.subspan(whole);
        continue;
      }
      const size_t n = std::min(bytes.size(), whole - pending.size());
      pending.insert(pending.end(), bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(n));
      bytes = bytes.subspan(n);
      if (pending.size() == whole) HC_TRY_VOID(flush());
    }
    return {};
  }

  Error refuse(const std::string& why) {
    failed = true;
    return Error{Errc::usage, "cannot write " + path + ": " + why, {}, {}};
  }
  Result<void> usable() {
    if (failed) return Error{Errc::usage, "cannot write " + path + ": an earlier error made it incomplete", {}, {}};
    return {};
  }

  /// Manifest or preliminary manifest.
  Result<void> put_manifest(ChunkType type, const SnapshotInfo& info) {
    const auto broken = broken_rules(info);
    if (!broken.empty()) return refuse(joined(broken));
    if (snapshot == bundle::kMaxSnapshots) return refuse("too many snapshots");
    const std::string text = manifest_text(info);
    if (text.size() > bundle::kMaxManifestBytes)
      return refuse("its manifest would have " + std::to_string(text.size()) + " bytes; at most " +
                    std::to_string(bundle::kMaxManifestBytes));
    return put_blob(type, {reinterpret_cast<const uint8_t*>(text.data()), text.size()});
  }

  Result<void> compare_sizes(const SnapshotInfo& info) {
    size_t known = 0;
    const auto same = [&](ChunkType type, const char* what, uint32_t id, uint64_t bytes) -> Result<void> {
      const auto it = written.find({type, id});
      const uint64_t have = it == written.end() ? 0 : it->second;
      known += it != written.end();
      if (have == bytes) return {};
      return refuse(std::string(what) + " " + std::to_string(id) + " is said to have " + std::to_string(bytes) +
                    " bytes but got " + std::to_string(have));
    };
    for (const StreamInfo& s : info.streams) HC_TRY_VOID(same(ChunkType::stream, "stream", s.id, s.bytes));
    for (const ImageInfo& i : info.images) HC_TRY_VOID(same(ChunkType::image, "image", i.id, i.bytes));
    if (known != written.size())
      return refuse("bytes were appended to a stream or image that the snapshot does not list");
    return {};
  }
};

BundleWriter::BundleWriter(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
BundleWriter::BundleWriter(BundleWriter&&) noexcept = default;
BundleWriter& BundleWriter::operator=(BundleWriter&&) noexcept = default;
BundleWriter::~BundleWriter() = default;

Result<BundleWriter> BundleWriter::create(const std::string& path) {
  auto impl = std::make_unique<Impl>();
  impl->path = path;
  HC_TRY(impl->fd, open_partial(path + ".partial"));
  impl->partial = path + ".partial";
  bundle::FileHeader header{};
  std::memcpy(header.magic, bundle::kFileMagic, sizeof header.magic);
  header.major = bundle::kMajor;
  header.minor = bundle::kMinor;
  header.checksum = checksum_of(bytes_of(header).first(offsetof(bundle::FileHeader, checksum)));
  HC_TRY_VOID(impl->put(bytes_of(header)));
  return BundleWriter(std::move(impl));
}

Result<void> BundleWriter::begin_snapshot(const SnapshotInfo& info) {
  HC_TRY_VOID(impl_->usable());
  if (impl_->begun) return impl_->refuse("begin_snapshot comes first and once");
  impl_->begun = true;
  return impl_->put_manifest(ChunkType::preliminary, info);
}

Result<void> BundleWriter::append_stream(uint32_t id, ByteSpan bytes) {
  return impl_->append(ChunkType::stream, id, bytes);
}

Result<void> BundleWriter::append_image(uint32_t id, ByteSpan bytes) {
  return impl_->append(ChunkType::image, id, bytes);
}

Result<void> BundleWriter::end_snapshot(const SnapshotInfo& info) {
  HC_TRY_VOID(impl_->usable());
  HC_TRY_VOID(impl_->flush());
  HC_TRY_VOID(impl_->compare_sizes(info));
  HC_TRY_VOID(impl_->put_manifest(ChunkType::manifest, info));
  ++impl_->snapshot;
  impl_->begun = false;
  impl_->written.clear();
  return {};
}

uint64_t BundleWriter::file_bytes() const { return impl_->position; }

Result<void> BundleWriter::finish() {
  Impl& w = *impl_;
  HC_TRY_VOID(w.usable());
  if (w.snapshot == 0 || w.begun) return w.refuse("the last snapshot has not ended");

  bundle::Trailer trailer{};
  trailer.index_offset = w.position;
  trailer.index_bytes = w.index.size() * sizeof(bundle::IndexEntry);
  HC_TRY_VOID(w.put_blob(ChunkType::index, {reinterpret_cast<const uint8_t*>(w.index.data()), trailer.index_bytes}));
  trailer.file_bytes = w.position + sizeof trailer;
  trailer.checksum = checksum_of(bytes_of(trailer).first(offsetof(bundle::Trailer, checksum)));
  std::memcpy(trailer.magic, bundle::kTrailerMagic, sizeof trailer.magic);
  HC_TRY_VOID(w.put(bytes_of(trailer)));

  if (::fsync(w.fd.get()) != 0) return errno_error("cannot make durable", w.partial);
  if (::rename(w.partial.c_str(), w.path.c_str()) != 0)
    return errno_error("cannot rename " + w.partial + " to", w.path);
  w.partial.clear();
  w.failed = true;  // nothing may follow
  // The new name is durable only once its folder is.
  const std::string folder = folder_of(w.path);
  Fd dir(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!dir.valid() || ::fsync(dir.get()) != 0) return errno_error("cannot make the name durable in", folder);
  w.fd = Fd();
  return {};
}

}  // namespace hindcast::transport
