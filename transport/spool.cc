// Files of the spool: what they are called, when they are durable, which may go.
#include "transport/spool.h"

#include <sys/file.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <map>
#include <set>

#include "transport/bundle_reader.h"
#include "transport/chunk_codec.h"
#include "transport/durable_file.h"
#include "transport/names.h"
#include "transport/snapshot_rules.h"
#include "transport/spool_maps.h"

namespace hindcast::transport {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kBundle{".hcb"}, kPartial{".hcb.partial"}, kMap{".map"}, kCommitted{".committed"},
    kNew{".new"};
constexpr std::string_view kCommittedMagic{"HCDONE1\n"};
constexpr uint64_t kMostMapBytes = uint64_t{4} << 30;
/// What a bundle gains after its last full chunk: the piece that waits for one, manifest, index, trailer.
constexpr uint64_t kHeadroom = uint64_t{2} << 20;

std::vector<uint8_t> committed_bytes(const Digest& digest) {
  std::vector<uint8_t> out;
  out.reserve(64);  // also keeps g++ 12 from seeing an overflow that is not there
  ByteWriter w(out);
  w.text(kCommittedMagic);
  w.bytes(digest);
  w.u64(static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now().time_since_epoch())
          .count()));
  w.u64(checksum_of(out));
  return out;
}

bool says_committed(ByteSpan bytes, const Digest& digest) {
  if (bytes.size() != kCommittedMagic.size() + digest.size() + 16) return false;
  return std::memcmp(bytes.data(), kCommittedMagic.data(), kCommittedMagic.size()) == 0 &&
         std::equal(digest.begin(), digest.end(), bytes.begin() + kCommittedMagic.size()) &&
         ByteReader(bytes.last(8)).u64() == checksum_of(bytes.first(bytes.size() - 8));
}

uint64_t size_of(const std::string& path) {
  struct stat st {};
  return ::stat(path.c_str(), &st) == 0 ? static_cast<uint64_t>(st.st_size) : 0;
}

std::string mib(uint64_t bytes) { return std::to_string((bytes + (1 << 19)) >> 20) + " MiB"; }

}  // namespace

struct Spool::Impl {
  SpoolConfig config;
  Fd lock;
  mutable std::mutex mutex;  // guards all below
  std::map<std::string, Entry> entries;
  std::set<std::string> writing;
  uint64_t used = 0;      // bytes of the entries' files
  uint64_t reserved = 0;  // promised to writers
  uint64_t evicted = 0;

  std::string path(const std::string& incident, std::string_view suffix) const {
    return config.folder + "/" + incident + std::string(suffix);
  }
  uint64_t bytes_of(const std::string& incident) const {
    return size_of(path(incident, kBundle)) + size_of(path(incident, kMap)) + size_of(path(incident, kCommitted));
  }

  /// The bundle goes first: what is left after a crash between the three belongs to nothing and is removed at open().
  void remove_files(const std::string& incident) {
    for (const auto suffix : {kBundle, kMap, kCommitted}) ::unlink(path(incident, suffix).c_str());
  }

  const Entry* oldest_committed() const {
    const Entry* oldest = nullptr;
    for (const auto& [name, e] : entries)
      if (e.committed && (!oldest || e.created_unix_ns < oldest->created_unix_ns)) oldest = &e;
    return oldest;
  }

  /// Room for `more` bytes beyond what is used and promised. With the mutex held.
  Result<void> make_room(uint64_t more, const std::string& incident) {
    while (more > config.limit_bytes || used + reserved > config.limit_bytes - more) {
      const Entry* victim = oldest_committed();
      if (!victim) {
        size_t uncommitted = 0;
        for (const auto& [name, e] : entries) uncommitted += !e.committed;
        return Error{Errc::too_large, "cannot keep the snapshot of incident " + incident + ": the spool is full",
                     mib(used) + " used by " + std::to_string(uncommitted) +
                         " snapshots that the server has not committed, " + mib(reserved) + " being written; limit " +
                         mib(config.limit_bytes),
                     "let the server catch up, or raise the spool's limit"};
      }
      used -= std::min(used, victim->bytes);
      ++evicted;
      remove_files(victim->incident);
      entries.erase(std::string(victim->incident));
    }
    reserved += more;
    return {};
  }

  /// Lists one durable bundle, as open() finds it or a writer has just made it.
  void take_in(const std::string& incident) {
    Entry e;
    e.incident = incident;
    e.bytes = bytes_of(incident);
    struct stat st {};
    if (::stat(path(incident, kBundle).c_str(), &st) == 0)
      e.created_unix_ns =
          static_cast<uint64_t>(st.st_mtim.tv_sec) * 1000000000u + static_cast<uint64_t>(st.st_mtim.tv_nsec);
    auto source = BundleBytes::file(path(incident, kBundle));
    auto directory = source.ok() ? read_directory(*source) : Result<Directory>(source.error());
    if (!directory.ok()) {
      e.damage = directory.error().what;
    } else if (const auto record = read_small(path(incident, kCommitted), 4096); record.ok()) {
      e.committed = says_committed(*record, directory->digest());
    }
    used += e.bytes;
    entries[incident] = std::move(e);
  }

  Result<void> sweep() {
    std::error_code error;
    std::vector<std::string> bundles, others;
    for (const auto& file : fs::directory_iterator(config.folder, error)) {
      const std::string name = file.path().filename().string();
      if (name.ends_with(kPartial) || name.ends_with(kNew))
        ::unlink((config.folder + "/" + name).c_str());  // never promised to anybody
      else if (name.ends_with(kBundle))
        bundles.push_back(name.substr(0, name.size() - kBundle.size()));
      else
        others.push_back(name);
    }
    if (error) return Error{Errc::io, "cannot list " + config.folder + ": " + error.message(), {}, {}};
    for (const std::string& incident : bundles)
      if (is_name(incident)) take_in(incident);
    for (const std::string& name : others)
      for (const auto suffix : {kMap, kCommitted})
        if (name.ends_with(suffix) && !entries.contains(name.substr(0, name.size() - suffix.size())))
          ::unlink((config.folder + "/" + name).c_str());
    return {};
  }
};

struct SpoolWriter::Impl {
  Spool::Impl& spool;
  std::string incident, host;
  BundleWriter bundle;
  uint64_t reserved;  // of the spool's limit, for this snapshot
  std::map<uint32_t, Hasher> images;
  std::map<uint32_t, PsbScanner> pt;

  Impl(Spool::Impl& s, std::string i, std::string h, BundleWriter b, uint64_t r)
      : spool(s), incident(std::move(i)), host(std::move(h)), bundle(std::move(b)), reserved(r) {}
  ~Impl() {
    std::lock_guard lock(spool.mutex);
    spool.reserved -= reserved;
    spool.writing.erase(incident);
  }

  Result<void> keep_within_limit() {
    const uint64_t needed = bundle.file_bytes() + kHeadroom;
    if (needed <= reserved) return {};
    constexpr uint64_t kStep = uint64_t{1} << 20;
    const uint64_t more = needed - reserved + kStep;
    std::lock_guard lock(spool.mutex);
    HC_TRY_VOID(spool.make_room(more, incident));
    reserved += more;
    return {};
  }

  /// In the order of the manifest, so that they equal what maps_of_bundle makes of the file.
  SpoolMaps take_maps(const SnapshotInfo& info) {
    SpoolMaps maps;
    for (const ImageInfo& i : info.images) maps.images.push_back({i.id, images[i.id].finish()});
    for (const StreamInfo& s : info.streams)
      if (s.kind == StreamKind::pt) maps.streams.push_back({s.id, std::move(pt[s.id]).finish()});
    sort_maps(maps);
    return maps;
  }
};

Spool::Spool(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Spool::~Spool() = default;

Result<std::unique_ptr<Spool>> Spool::open(const SpoolConfig& config) {
  auto impl = std::make_unique<Impl>();
  impl->config = config;
  if (::mkdir(config.folder.c_str(), 0700) != 0 && errno != EEXIST)
    return errno_error("cannot make the spool's folder", config.folder);
  const std::string lock = config.folder + "/lock";
  impl->lock = Fd(::open(lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!impl->lock.valid()) return errno_error("cannot open", lock);
  if (::flock(impl->lock.get(), LOCK_EX | LOCK_NB) != 0)
    return Error{Errc::usage,
                 "cannot use the spool " + config.folder + ": another process has it",
                 {},
                 "stop the other hindcastd, or give this one a folder of its own"};
  HC_TRY_VOID(impl->sweep());
  // A kill may have come between a bundle's rename and its folder's fsync; what is listed now counts as durable.
  HC_TRY_VOID(sync_folder(config.folder));
  return std::unique_ptr<Spool>(new Spool(std::move(impl)));
}

Result<SpoolWriter> Spool::begin(const std::string& incident, const std::string& host, uint64_t expected_bytes) {
  const auto refuse = [&](const std::string& why, const std::string& fix) {
    return Error{Errc::usage, "cannot keep a snapshot: " + why, {}, fix};
  };
  if (!is_name(incident)) return refuse("its incident is not named as incidents are", kNameRule);
  if (!is_name(host)) return refuse("its host is not named as hosts are", kNameRule);
  const uint64_t expected = expected_bytes + kHeadroom;
  {
    std::lock_guard lock(impl_->mutex);
    if (impl_->entries.contains(incident) || impl_->writing.contains(incident))
      return refuse("incident " + incident + " is in the spool already", "freeze again under a new incident");
    HC_TRY_VOID(impl_->make_room(expected, incident));
    impl_->writing.insert(incident);
  }
  auto bundle = BundleWriter::create(impl_->path(incident, kBundle));
  if (!bundle) {
    std::lock_guard lock(impl_->mutex);
    impl_->reserved -= expected;
    impl_->writing.erase(incident);
    return bundle.error();
  }
  return SpoolWriter(std::make_unique<SpoolWriter::Impl>(*impl_, incident, host, std::move(*bundle), expected));
}

std::vector<Spool::Entry> Spool::entries() const {
  std::lock_guard lock(impl_->mutex);
  std::vector<Entry> out;
  for (const auto& [name, e] : impl_->entries) out.push_back(e);
  std::stable_sort(out.begin(), out.end(),
                   [](const Entry& a, const Entry& b) { return a.created_unix_ns < b.created_unix_ns; });
  return out;
}

std::vector<std::string> Spool::waiting() const {
  std::vector<std::string> out;
  for (const Entry& e : entries())
    if (!e.committed && e.damage.empty()) out.push_back(e.incident);
  return out;
}

std::vector<Spool::Entry> Spool::damaged() const {
  auto all = entries();
  std::erase_if(all, [](const Entry& e) { return e.damage.empty(); });
  return all;
}

bool Spool::holds(const std::string& incident) const {
  std::lock_guard lock(impl_->mutex);
  return impl_->entries.contains(incident);
}

uint64_t Spool::used_bytes() const {
  std::lock_guard lock(impl_->mutex);
  return impl_->used + impl_->reserved;
}
uint64_t Spool::limit_bytes() const { return impl_->config.limit_bytes; }
uint64_t Spool::evicted() const {
  std::lock_guard lock(impl_->mutex);
  return impl_->evicted;
}

Result<SpooledSnapshot> Spool::open_snapshot(const std::string& incident) {
  const std::string path = impl_->path(incident, kBundle);
  if (!holds(incident)) return Error{Errc::not_found, "the spool has no incident " + incident, {}, {}};
  const auto damaged = [&](const Error& e) {
    std::lock_guard lock(impl_->mutex);
    if (const auto it = impl_->entries.find(incident); it != impl_->entries.end()) it->second.damage = e.what;
    return e;
  };
  HC_TRY(BundleBytes source, BundleBytes::file(path));
  auto directory = read_directory(source);
  if (!directory) return damaged(directory.error());
  SpooledSnapshot s(std::move(source));
  s.incident = incident;
  s.digest = directory->digest();
  s.directory = std::move(*directory);
  if (const auto bytes = read_small(impl_->path(incident, kMap), kMostMapBytes); bytes.ok())
    if (auto maps = parse_spool_maps(*bytes); maps.ok()) {
      s.maps = std::move(*maps);
      return s;
    }
  auto maps = maps_of_bundle(path);
  if (!maps) return damaged(maps.error());
  s.maps = std::move(*maps);
  (void)write_whole(impl_->path(incident, kMap), spool_maps_bytes(s.maps));  // only saves the work the next time
  return s;
}

bool SpooledSnapshot::read_stored(uint32_t number, std::span<uint8_t> to) const {
  HC_CHECK(number < directory.chunks.size() && to.size() == directory.chunks[number].header.stored_bytes);
  return source_.read(directory.chunks[number].file_offset + sizeof(bundle::ChunkHeader), to);
}

Result<void> Spool::mark_committed(const std::string& incident, const Digest& digest) {
  HC_TRY(const BundleBytes source, BundleBytes::file(impl_->path(incident, kBundle)));
  HC_TRY(const Directory directory, read_directory(source));
  if (directory.digest() != digest)
    return Error{Errc::corrupt,
                 "the server says that it committed incident " + incident + ", but not what the spool holds",
                 "digest " + hex(digest) + "; here " + hex(directory.digest()),
                 "the snapshot stays in the spool; look for another host that uses this host's name"};
  HC_TRY_VOID(write_durable(impl_->path(incident, kCommitted), committed_bytes(digest)));
  std::lock_guard lock(impl_->mutex);
  if (const auto it = impl_->entries.find(incident); it != impl_->entries.end()) {
    it->second.committed = true;
    const uint64_t bytes = impl_->bytes_of(incident);
    impl_->used += bytes - it->second.bytes;
    it->second.bytes = bytes;
  }
  return {};
}

SpoolWriter::SpoolWriter(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
SpoolWriter::SpoolWriter(SpoolWriter&&) noexcept = default;
SpoolWriter::~SpoolWriter() = default;

Result<void> SpoolWriter::append_stream(uint32_t id, StreamKind kind, ByteSpan bytes) {
  if (kind == StreamKind::pt) impl_->pt[id].feed(bytes);
  HC_TRY_VOID(impl_->bundle.append_stream(id, bytes));
  return impl_->keep_within_limit();
}

Result<void> SpoolWriter::append_image(uint32_t id, ByteSpan bytes) {
  impl_->images[id].add(bytes);
  HC_TRY_VOID(impl_->bundle.append_image(id, bytes));
  return impl_->keep_within_limit();
}

Result<uint64_t> SpoolWriter::finish(const SnapshotInfo& info) {
  SpoolWriter::Impl& w = *impl_;
  if (info.incident != w.incident || info.host != w.host)
    return Error{Errc::usage,
                 "cannot keep the snapshot of incident " + w.incident + ": it describes itself as another",
                 "incident '" + info.incident + "' of host '" + info.host + "'",
                 {}};
  HC_TRY_VOID(w.bundle.end_snapshot(info));
  HC_TRY_VOID(w.keep_within_limit());
  // Before the bundle gets its name: then a durable bundle has its map, unless the power fails just now.
  HC_TRY_VOID(write_whole(w.spool.path(w.incident, kMap), spool_maps_bytes(w.take_maps(info))));
  auto done = w.bundle.finish();
  std::lock_guard lock(w.spool.mutex);
  if (!done) {
    w.spool.remove_files(w.incident);  // it was not promised, so it must not appear after a restart
    return done.error();
  }
  w.spool.take_in(w.incident);
  return w.spool.entries[w.incident].bytes;
}

}  // namespace hindcast::transport
