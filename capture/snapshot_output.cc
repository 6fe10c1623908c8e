#include "capture/snapshot_output.h"

#include <algorithm>
#include <chrono>
#include <map>

#include "hindcast/bundle_format.h"

namespace hindcast::capture {

namespace {

constexpr size_t kPiece = size_t{1} << 20;

/// Keeps lists within what the format can hold; what does not fit becomes one line that says so.
template <class T>
void limit(std::vector<T>& list, size_t most, const char* name, std::vector<std::string>& notes) {
  if (list.size() <= most) return;
  notes.push_back(std::to_string(list.size() - most) + " " + name + " left out: the file holds at most " +
                  std::to_string(most));
  list.resize(most);
}

/// The part of each placement that its image has bytes for: mappings are whole pages, files end where they end.
void clip_to_images(std::vector<PlacementInfo>& placements, const std::vector<ImageInfo>& images) {
  std::map<uint32_t, uint64_t> bytes;
  for (const ImageInfo& i : images) bytes[i.id] = i.bytes;
  for (PlacementInfo& p : placements) {
    const auto image = bytes.find(p.image);
    const uint64_t size = image == bytes.end() ? 0 : image->second;
    p.length = p.image_offset >= size ? 0 : std::min(p.length, size - p.image_offset);
  }
  std::erase_if(placements, [](const PlacementInfo& p) { return p.length == 0; });
}

void fit_texts(SnapshotInfo& info) {
  limit(info.notes, bundle::kMaxNotes - 1, "notes", info.notes);
  for (std::string& n : info.notes)
    if (n.size() > bundle::kMaxTextBytes) n.resize(bundle::kMaxTextBytes);
  if (info.command.size() > bundle::kMaxCommandBytes) info.command.resize(bundle::kMaxCommandBytes);
}

Result<void> write_image(SnapshotOutput& output, CapturedImage& image, std::vector<std::string>& notes) {
  if (!image.file.valid()) return output.append_image(image.info.id, image.memory);
  std::vector<uint8_t> piece(kPiece);
  uint64_t at = 0;
  while (at < image.info.bytes) {
    const size_t want = std::min<uint64_t>(piece.size(), image.info.bytes - at);
    const ssize_t n = ::pread(image.file.get(), piece.data(), want, static_cast<off_t>(at));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      notes.push_back("image cut short: " + image.info.path + " shrank or became unreadable after it was mapped (" +
                      (n < 0 ? std::strerror(errno) : "end of file") + ")");
      break;
    }
    HC_TRY_VOID(output.append_image(image.info.id, ByteSpan(piece.data(), static_cast<size_t>(n))));
    at += static_cast<uint64_t>(n);
  }
  image.info.bytes = at;
  return {};
}

}  // namespace

Result<void> write_snapshot(SnapshotOutput& output, Frozen& frozen, const Window::Say& say) {
  SnapshotInfo& info = frozen.info;
  std::vector<Cut>& cuts = frozen.cuts;
  CodeBytes::Collected& code = frozen.code;
  using Clock = std::chrono::steady_clock;
  uint64_t total = 1, done = 0;
  for (const Cut& c : cuts) total += c.bytes.size();
  for (const CapturedImage& i : code.images) total += i.info.bytes;
  auto next_word = Clock::now() + std::chrono::seconds(1);
  const auto progress = [&](uint64_t bytes) {
    done += bytes;
    if (Clock::now() < next_word) return;
    say("writing: " + std::to_string(done * 100 / total) + " %");
    next_word += std::chrono::seconds(1);
  };
  uint32_t id = 1;
  for (Cut& c : cuts) {
    c.info.id = id++;
    c.info.bytes = c.bytes.size();
    info.streams.push_back(c.info);
  }
  limit(code.images, bundle::kMaxImages, "images", info.notes);
  for (CapturedImage& image : code.images) {
    if (!image.file.valid()) image.info.bytes = image.memory.size();
    info.images.push_back(image.info);
  }
  info.placements.insert(info.placements.end(), code.placements.begin(), code.placements.end());
  clip_to_images(info.placements, info.images);
  limit(info.placements, bundle::kMaxPlacements, "placements", info.notes);
  info.unknown_code = std::move(code.unknown);
  limit(info.root_pids, bundle::kMaxRootPids, "process ids", info.notes);
  fit_texts(info);

  // What it will hold comes first, then what reading it needs most: a file that is cut later still opens.
  HC_TRY_VOID(output.begin(info));
  for (size_t i = 0; i < code.images.size(); ++i) {
    HC_TRY_VOID(write_image(output, code.images[i], info.notes));
    info.images[i].bytes = code.images[i].info.bytes;
    progress(info.images[i].bytes);
  }
  for (const bool trace : {false, true})
    for (const Cut& c : cuts) {
      if ((c.info.kind == StreamKind::pt) != trace) continue;
      for (size_t at = 0; at < c.bytes.size(); at += kPiece) {
        const ByteSpan piece = ByteSpan(c.bytes).subspan(at, std::min(kPiece, c.bytes.size() - at));
        HC_TRY_VOID(output.append_stream(c.info.id, c.info.kind, piece));
        progress(piece.size());
      }
    }
  clip_to_images(info.placements, info.images);  // a file may have shrunk while it was read
  fit_texts(info);
  return output.end(info);
}

}  // namespace hindcast::capture
