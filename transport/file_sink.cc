// Puts chunks at the places where the host's file has them, and gives the file its name when it is whole.
#include "transport/file_sink.h"

#include <sys/file.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <mutex>
#include <optional>

#include "transport/bundle_reader.h"
#include "transport/chunk_codec.h"
#include "transport/durable_file.h"
#include "transport/names.h"

namespace hindcast::transport {

namespace {

namespace fs = std::filesystem;
using bundle::ChunkHeader;
using bundle::ChunkType;
using bundle::IndexEntry;

constexpr uint64_t kWriteBackBytes = uint64_t{4} << 20;

template <class T>
ByteSpan bytes_of(const T& v) {
  return {reinterpret_cast<const uint8_t*>(&v), sizeof(T)};
}

Result<void> write_at(const Fd& fd, uint64_t at, ByteSpan bytes, const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t n = ::pwrite(fd.get(), bytes.data(), bytes.size(), static_cast<off_t>(at));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno_error("cannot write", path, "free some space on the server");
    bytes = bytes.subspan(static_cast<size_t>(n));
    at += static_cast<uint64_t>(n);
  }
  return {};
}

bool read_at(const Fd& fd, uint64_t at, std::span<uint8_t> to) {
  while (!to.empty()) {
    const ssize_t n = ::pread(fd.get(), to.data(), to.size(), static_cast<off_t>(at));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    to = to.subspan(static_cast<size_t>(n));
    at += static_cast<uint64_t>(n);
  }
  return true;
}

/// The chunk at `at` of fd, when it is the one that `header` describes.
std::optional<std::vector<uint8_t>> verified_chunk(const Fd& fd, uint64_t at, const ChunkHeader& header,
                                                   ChunkDecoder& decoder) {
  ChunkHeader there;
  if (!read_at(fd, at, {reinterpret_cast<uint8_t*>(&there), sizeof there}) ||
      std::memcmp(&there, &header, sizeof there) != 0)
    return std::nullopt;
  std::vector<uint8_t> stored(header.stored_bytes);
  if (!read_at(fd, at + sizeof there, stored) || !decoder.decode(header, stored).ok()) return std::nullopt;
  return stored;
}

Result<void> make_folder(const std::string& path) {
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) return errno_error("cannot make", path);
  return {};
}

}  // namespace

struct FileSink::State {
  std::string folder;
  Limits limits;
  Committed committed;
  mutable std::mutex mutex;
  uint64_t used = 0;  // under mutex

  Result<void> reserve(uint64_t bytes) {
    std::lock_guard lock(mutex);
    if (bytes > limits.total_bytes - std::min(used, limits.total_bytes))
      return Error{Errc::io, "cannot store the snapshot: the store is full",
                   std::to_string(used) + " bytes used of " + std::to_string(limits.total_bytes),
                   "remove old incidents, or raise the limit"};
    used += bytes;
    return {};
  }
  void release(uint64_t bytes) {
    std::lock_guard lock(mutex);
    used -= std::min(bytes, used);
  }
};

namespace {

class IncomingFile : public IncomingSnapshot {
 public:
  IncomingFile(std::shared_ptr<FileSink::State> sink, SnapshotOffer offer)
      : sink_(std::move(sink)),
        offer_(std::move(offer)),
        folder_(sink_->folder + "/" + offer_.host),
        path_(folder_ + "/" + offer_.incident + ".hcb"),
        partial_(path_ + ".partial"),
        have_(offer_.directory.chunks.size()) {}

  Result<void> open() {
    if (auto there = BundleBytes::file(path_); there.ok()) {
      const auto directory = read_directory(*there);
      if (directory.ok() && directory->digest() == offer_.digest) {
        // A crash may have come between the rename and the folder's fsync.
        HC_TRY_VOID(sync_folder(folder_));
        committed_ = true;
        return {};
      }
      return Error{Errc::usage,
                   "refused: incident " + offer_.incident + " of " + offer_.host + " is here with other content",
                   "digest " + hex(offer_.digest) + " offered", "look for another host that uses this host's name"};
    }
    const uint64_t bytes = offer_.directory.trailer.file_bytes;
    if (bytes > sink_->limits.snapshot_bytes)
      return Error{Errc::usage, "refused: the snapshot is larger than this server takes",
                   std::to_string(bytes) + " bytes; at most " + std::to_string(sink_->limits.snapshot_bytes),
                   "raise the server's limit, or make the host's rings smaller"};
    HC_TRY_VOID(make_folder(folder_));
    file_ = Fd(::open(partial_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!file_.valid()) return errno_error("cannot create", partial_);
    if (::flock(file_.get(), LOCK_EX | LOCK_NB) != 0)
      return Error{
          Errc::io, "cannot write " + partial_ + ": another process is writing it", {}, "stop the other server"};
    struct stat st {};
    if (::fstat(file_.get(), &st) != 0) return errno_error("cannot stat", partial_);
    const uint64_t there = static_cast<uint64_t>(st.st_size);
    if (bytes > there) HC_TRY_VOID(sink_->reserve(bytes - there));
    if (::ftruncate(file_.get(), static_cast<off_t>(bytes)) != 0) {
      const Error e = errno_error("cannot resize", partial_);
      if (bytes > there) sink_->release(bytes - there);
      return e;
    }
    if (bytes < there) sink_->release(there - bytes);
    if (there > 0) find_survivors();
    find_known_images();
    return {};
  }

  bool committed() const override { return committed_; }
  const std::vector<bool>& have() const override { return have_; }

  /// The whole file holds what the map is made of; a store that decodes early keeps it.
  Result<void> psb_map(uint32_t, const PsbMap&) override { return {}; }

  Result<void> write(uint32_t number, ByteSpan stored, ByteSpan) override {
    HC_CHECK(number < have_.size() && !have_[number] && stored.size() == entry(number).header.stored_bytes);
    HC_TRY_VOID(put(number, stored));
    unsynced_ += stored.size();
    if (unsynced_ >= kWriteBackBytes) {
      // Only a hint, so that the fsync at the end has little left to wait for.
      (void)::sync_file_range(file_.get(), 0, 0, SYNC_FILE_RANGE_WRITE);
      unsynced_ = 0;
    }
    return {};
  }

  Result<void> commit() override {
    if (committed_) return {};
    HC_CHECK(std::find(have_.begin(), have_.end(), false) == have_.end());
    const Directory& d = offer_.directory;
    HC_TRY_VOID(write_at(file_, 0, bytes_of(d.header), partial_));
    HC_TRY_VOID(write_at(file_, d.trailer.file_bytes - sizeof d.trailer, bytes_of(d.trailer), partial_));
    if (auto whole = check_whole(); !whole.ok()) {
      ::unlink(partial_.c_str());
      sink_->release(d.trailer.file_bytes);
      return whole;
    }
    if (::fsync(file_.get()) != 0) return errno_error("cannot make durable", partial_);
    if (::rename(partial_.c_str(), path_.c_str()) != 0) return errno_error("cannot rename", partial_);
    HC_TRY_VOID(sync_folder(folder_));
    HC_TRY_VOID(sync_folder(sink_->folder));
    committed_ = true;
    remember_images();
    if (sink_->committed) sink_->committed(offer_.host, offer_.incident, path_);
    return {};
  }

 private:
  const IndexEntry& entry(uint32_t number) const { return offer_.directory.chunks[number]; }

  Result<void> put(uint32_t number, ByteSpan stored) {
    const IndexEntry& e = entry(number);
    HC_TRY_VOID(write_at(file_, e.file_offset, bytes_of(e.header), partial_));
    HC_TRY_VOID(write_at(file_, e.file_offset + sizeof e.header, stored, partial_));
    have_[number] = true;
    return {};
  }

  void find_survivors() {
    ChunkDecoder decoder;
    for (uint32_t i = 0; i < have_.size(); ++i)
      have_[i] = verified_chunk(file_, entry(i).file_offset, entry(i).header, decoder).has_value();
  }

  std::string image_note(const Digest& content) const { return sink_->folder + "/images/" + hex(content); }

  /// Images that a committed bundle holds in the same encoding are copied from there.
  void find_known_images() {
    for (const SpoolMaps::Image& image : offer_.images) {
      const auto note = read_small(image_note(image.content), 4096);
      if (!note.ok()) continue;
      const std::string text(note->begin(), note->end());
      const size_t slash = text.find('/'), blank = text.find(' ');
      if (slash == text.npos || blank == text.npos || blank < slash) continue;
      const std::string host = text.substr(0, slash), incident = text.substr(slash + 1, blank - slash - 1);
      if (!is_name(host) || !is_name(incident)) continue;
      copy_image(sink_->folder + "/" + host + "/" + incident + ".hcb",
                 static_cast<uint32_t>(std::strtoul(text.c_str() + blank, nullptr, 10)), image.id);
    }
  }

  void copy_image(const std::string& from, uint32_t from_id, uint32_t to_id) {
    auto source = BundleBytes::file(from);
    if (!source.ok()) return;
    const auto other = read_directory(*source);
    if (!other.ok()) return;
    std::vector<const IndexEntry*> theirs;
    for (const IndexEntry& e : other->chunks)
      if (e.header.type == static_cast<uint8_t>(ChunkType::image) && e.header.id == from_id) theirs.push_back(&e);
    size_t next = 0;
    ChunkDecoder decoder;
    for (uint32_t i = 0; i < have_.size(); ++i) {
      const ChunkHeader& ours = entry(i).header;
      if (ours.type != static_cast<uint8_t>(ChunkType::image) || ours.id != to_id) continue;
      if (next == theirs.size()) return;
      const ChunkHeader& h = theirs[next]->header;
      const uint64_t at = theirs[next++]->file_offset + sizeof(ChunkHeader);
      if (have_[i] || h.flags != ours.flags || h.offset != ours.offset || h.raw_bytes != ours.raw_bytes ||
          h.stored_bytes != ours.stored_bytes || h.raw_checksum != ours.raw_checksum)
        continue;
      std::vector<uint8_t> stored(h.stored_bytes);
      if (!source->read(at, stored) || !decoder.decode(ours, stored).ok() || !put(i, stored).ok()) continue;
    }
  }

  /// Notes of images that nobody noted yet. Content is hashed here: what a host states is not believed.
  void remember_images() {
    auto reader = BundleReader::open(path_);
    if (!reader.ok() || !make_folder(sink_->folder + "/images").ok()) return;
    for (const SpoolMaps::Image& image : offer_.images) {
      if (fs::exists(image_note(image.content))) continue;
      const auto bytes = reader->read_image(0, image.id);
      if (!bytes.ok()) continue;
      Hasher h;
      h.add(*bytes);
      if (h.finish() != image.content) continue;
      const std::string text = offer_.host + "/" + offer_.incident + " " + std::to_string(image.id) + "\n";
      (void)write_whole(image_note(image.content), {reinterpret_cast<const uint8_t*>(text.data()), text.size()});
    }
  }

  /// Every chunk was verified by itself; now the whole must be the bundle that it was offered as.
  Result<void> check_whole() {
    const auto refuse = [&](const std::string& why) {
      return Error{Errc::corrupt,
                   "refused: what host " + offer_.host + " sent for incident " + offer_.incident + " " + why,
                   {},
                   {}};
    };
    const auto reader = BundleReader::open(partial_);
    if (!reader.ok()) return refuse("is no bundle: " + reader.error().what);
    if (!reader->damage().empty()) return refuse("is damaged: " + reader->damage()[0].what);
    if (reader->snapshot_count() != 1) return refuse("holds more than one snapshot");
    if (reader->snapshot(0).host != offer_.host) return refuse("was recorded on another host");
    if (reader->snapshot(0).incident != offer_.incident) return refuse("belongs to another incident");
    return {};
  }

  std::shared_ptr<FileSink::State> sink_;
  SnapshotOffer offer_;
  std::string folder_, path_, partial_;
  Fd file_;
  std::vector<bool> have_;
  uint64_t unsynced_ = 0;
  bool committed_ = false;
};

}  // namespace

Result<std::unique_ptr<FileSink>> FileSink::create(const std::string& folder, Limits limits, Committed committed) {
  HC_TRY_VOID(make_folder(folder));
  auto state = std::make_shared<State>();
  state->folder = folder;
  state->limits = limits;
  state->committed = std::move(committed);
  std::error_code error;
  for (const auto& file : fs::recursive_directory_iterator(folder, error)) {
    std::error_code gone;
    if (file.is_regular_file(gone)) state->used += file.file_size(gone);
  }
  if (error) return Error{Errc::io, "cannot list " + folder + ": " + error.message(), {}, {}};
  return std::unique_ptr<FileSink>(new FileSink(std::move(state)));
}

uint64_t FileSink::used() const {
  std::lock_guard lock(state_->mutex);
  return state_->used;
}

Result<void> FileSink::reserve(uint64_t bytes) { return state_->reserve(bytes); }

void FileSink::release(uint64_t bytes) { state_->release(bytes); }

std::string FileSink::path_of(const std::string& host, const std::string& incident) const {
  return state_->folder + "/" + host + "/" + incident + ".hcb";
}

Result<void> FileSink::remove(const std::string& host, const std::string& incident) {
  const std::string path = path_of(host, incident);
  struct stat st {};
  if (::stat(path.c_str(), &st) != 0 || ::unlink(path.c_str()) != 0) return errno_error("cannot remove", path);
  state_->release(static_cast<uint64_t>(st.st_size));
  HC_TRY_VOID(sync_folder(state_->folder + "/" + host));
  // So that the next bundle with such an image is noted in its place.
  const std::string from = host + "/" + incident + " ";
  std::error_code gone;
  for (fs::directory_iterator it(state_->folder + "/images", gone), end; !gone && it != end; it.increment(gone)) {
    const auto note = read_small(it->path(), 4096);
    if (note.ok() && std::string(note->begin(), note->end()).starts_with(from)) ::unlink(it->path().c_str());
  }
  return {};
}

Result<std::unique_ptr<IncomingSnapshot>> FileSink::open(const SnapshotOffer& offer) {
  HC_CHECK(is_name(offer.host) && is_name(offer.incident));
  auto incoming = std::make_unique<IncomingFile>(state_, offer);
  HC_TRY_VOID(incoming->open());
  return std::unique_ptr<IncomingSnapshot>(std::move(incoming));
}

}  // namespace hindcast::transport
