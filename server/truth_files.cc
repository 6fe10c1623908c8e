#include "server/truth_files.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <optional>
#include <unordered_map>

#include "hindcast/fd.h"
#include "hindcast/truth_format.h"

namespace hindcast::server {
namespace {

namespace fs = std::filesystem;

constexpr uint32_t kSpecial = 0x80000000u;

sim::TruthWord type_of(uint32_t word) { return static_cast<sim::TruthWord>((word >> 24) & 0x7f); }

Error bad_file(const std::string& path, const std::string& why) {
  return Error{Errc::bad_input,
               "cannot use the truth file " + path + ": " + why,
               {},
               "record again with --truth into an empty folder"};
}

struct TruthFile {
  std::string path;
  Mapping map;
  sim::TruthHeader header{};

  ByteSpan body() const { return map.bytes().subspan(sizeof(sim::TruthHeader)); }
};

Result<TruthFile> open_file(const std::string& path) {
  TruthFile f;
  f.path = path;
  HC_TRY(f.map, map_file(path));
  if (f.map.bytes().size() < sizeof f.header) return bad_file(path, "shorter than its header");
  std::memcpy(&f.header, f.map.bytes().data(), sizeof f.header);
  if (f.header.magic != sim::kTruthMagic) return bad_file(path, "not a truth file");
  if (f.header.version != sim::kTruthVersion)
    return Error{
        Errc::version, "cannot use the truth file " + path,
        "version " + std::to_string(f.header.version) + "; this program reads " + std::to_string(sim::kTruthVersion),
        "record it with the same version"};
  return f;
}

/// The blocks of one process image.
struct Image {
  TruthFile file;
  struct Block {
    size_t offset = 0;  // of its first TruthInstruction in the body
    uint32_t instructions = 0;
  };
  std::unordered_map<uint32_t, Block> blocks;

  Result<void> index() {
    const ByteSpan body = file.body();
    ByteReader r(body);
    while (r.left() >= sizeof(sim::TruthBlock)) {
      const uint32_t number = r.u32(), instructions = r.u32();
      if (number == 0) return {};
      blocks[number] = {r.offset(), instructions};
      r.skip(uint64_t{instructions} * sizeof(sim::TruthInstruction));
      if (r.failed()) return bad_file(file.path, "block " + std::to_string(number) + " runs past the file's end");
    }
    return {};
  }
  uint64_t ip(const Block& b, uint32_t i) const {
    uint64_t v = 0;
    std::memcpy(&v, file.body().data() + b.offset + i * sizeof(sim::TruthInstruction), sizeof v);
    return v;
  }
};

/// The words of one thread in one process image.
struct Part {
  const Image* image = nullptr;
  TruthFile file;
  unsigned image_number = 0;
  size_t words = 0;        // up to the zero word
  uint32_t uncertain = 0;  // instructions of a last block of which nobody knows how far it ran

  uint32_t word(size_t i) const {
    uint32_t v = 0;
    std::memcpy(&v, file.body().data() + i * 4, sizeof v);
    return v;
  }

  /// Finds the end and checks every word.
  Result<void> index() {
    const size_t all = file.body().size() / 4;
    bool last_is_block = false;
    while (words < all) {
      const uint32_t w = word(words);
      if (w == 0) break;
      if (w & kSpecial) {
        const size_t more = sim::truth_words_after(type_of(w));
        if (more >= all - words) return bad_file(file.path, "its last word is cut");
        last_is_block = false;
        words += 1 + more;
        continue;
      }
      const auto block = image->blocks.find(w);
      if (block == image->blocks.end())
        return bad_file(file.path, "names block " + std::to_string(w) + ", which " + image->file.path + " lacks");
      last_is_block = true;
      uncertain = block->second.instructions;
      ++words;
    }
    if (!last_is_block) uncertain = 0;
    return {};
  }
};

class Sequence : public TruthSequence {
 public:
  explicit Sequence(const std::vector<Part>* parts) : parts_(parts) {}

  bool next(uint64_t& ip) override {
    while (left_ == 0)
      if (!next_block()) return false;
    ip = (*parts_)[part_].image->ip(block_, at_++);
    --left_;
    return true;
  }
  TscInterval time() const override {
    if (std::pair(ahead_part_, ahead_word_) <= std::pair(part_, word_)) look_ahead();
    return {since_, ahead_};
  }
  std::unique_ptr<TruthSequence> clone() const override { return std::make_unique<Sequence>(*this); }
  uint64_t uncertain_tail() const override { return parts_->back().uncertain; }

 private:
  bool next_block() {
    for (; part_ < parts_->size(); ++part_, word_ = 0) {
      const Part& p = (*parts_)[part_];
      while (word_ < p.words) {
        const uint32_t w = p.word(word_++);
        if (w & kSpecial) {
          if (const auto t = time_at(p, word_ - 1)) since_ = *t;
          word_ += sim::truth_words_after(type_of(w));
          continue;
        }
        block_ = p.image->blocks.at(w);
        at_ = 0;
        left_ = block_.instructions;
        if (word_ < p.words) {
          const uint32_t after = p.word(word_);
          if ((after & kSpecial) && type_of(after) == sim::TruthWord::partial) {
            left_ = std::min(left_, after & 0xffffffu);
            ++word_;
          }
        }
        return true;
      }
    }
    return false;
  }

  /// The time that a special word gives: its last two words.
  static std::optional<Tsc> time_at(const Part& p, size_t word) {
    const size_t more = sim::truth_words_after(type_of(p.word(word)));
    if (more < 2) return std::nullopt;
    return Tsc(p.word(word + more - 1) | uint64_t{p.word(word + more)} << 32);
  }
  /// Finds the next word with a time.
  void look_ahead() const {
    ahead_word_ = word_;
    for (ahead_part_ = part_; ahead_part_ < parts_->size(); ++ahead_part_, ahead_word_ = 0) {
      const Part& p = (*parts_)[ahead_part_];
      while (ahead_word_ < p.words) {
        const size_t at = ahead_word_;
        const uint32_t w = p.word(at);
        ahead_word_ += 1 + (w & kSpecial ? sim::truth_words_after(type_of(w)) : 0);
        if (!(w & kSpecial)) continue;
        if (const auto t = time_at(p, at)) {
          ahead_ = *t;
          return;
        }
      }
    }
    ahead_ = Tsc::max();
  }

  const std::vector<Part>* parts_;
  size_t part_ = 0, word_ = 0;
  Tsc since_ = Tsc::min();                          // of the last word with a time
  mutable size_t ahead_part_ = 0, ahead_word_ = 0;  // behind the next one
  mutable Tsc ahead_ = Tsc::min();
  Image::Block block_;
  uint32_t at_ = 0, left_ = 0;
};

}  // namespace

struct TruthFolder::Impl {
  std::map<std::pair<int, unsigned>, Image> images;
  std::map<Tid, std::vector<Part>> threads;
};

TruthFolder::TruthFolder(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
TruthFolder::TruthFolder(TruthFolder&&) noexcept = default;
TruthFolder& TruthFolder::operator=(TruthFolder&&) noexcept = default;
TruthFolder::~TruthFolder() = default;

Result<TruthFolder> TruthFolder::open(const std::string& folder) {
  std::error_code error;
  fs::directory_iterator list(folder, error);
  if (error) return Error{Errc::not_found, "cannot read the truth folder " + folder + ": " + error.message(), {}, {}};
  auto impl = std::make_unique<Impl>();
  std::vector<fs::path> thread_files;
  for (const auto& entry : list) {
    const std::string name = entry.path().filename().string();
    int pid = 0, used = 0;
    unsigned image = 0;
    if (name.ends_with(".thread")) {
      thread_files.push_back(entry.path());
    } else if (std::sscanf(name.c_str(), "%d.%u.blocks%n", &pid, &image, &used) == 2 &&
               used == static_cast<int>(name.size())) {
      Image& i = impl->images[{pid, image}];
      HC_TRY(i.file, open_file(entry.path().string()));
      HC_TRY_VOID(i.index());
    }
  }
  for (const fs::path& path : thread_files) {
    int pid = 0, tid = 0;
    unsigned image = 0;
    if (std::sscanf(path.filename().c_str(), "%d.%u.%d.", &pid, &image, &tid) != 3)
      return bad_file(path.string(), "its name is not PID.K.TID.J.thread");
    const auto blocks = impl->images.find({pid, image});
    if (blocks == impl->images.end()) return bad_file(path.string(), "its blocks file is missing");
    Part part;
    part.image = &blocks->second;
    part.image_number = image;
    HC_TRY(part.file, open_file(path.string()));
    HC_TRY_VOID(part.index());
    impl->threads[Tid(tid)].push_back(std::move(part));
  }
  if (impl->threads.empty())
    return Error{Errc::not_found, "no truth in " + folder, "no file PID.K.TID.J.thread",
                 "record with --truth " + folder};
  for (auto& [tid, parts] : impl->threads)
    std::sort(parts.begin(), parts.end(), [](const Part& a, const Part& b) {
      return std::pair(a.image_number, a.file.header.tsc) < std::pair(b.image_number, b.file.header.tsc);
    });
  return TruthFolder(std::move(impl));
}

std::vector<Tid> TruthFolder::threads() const {
  std::vector<Tid> out;
  for (const auto& [tid, parts] : impl_->threads) out.push_back(tid);
  return out;
}

std::unique_ptr<TruthSequence> TruthFolder::sequence(Tid tid) const {
  const auto it = impl_->threads.find(tid);
  return it == impl_->threads.end() ? nullptr : std::make_unique<Sequence>(&it->second);
}

std::string TruthFolder::incomplete(Tid tid) const {
  const auto it = impl_->threads.find(tid);
  if (it == impl_->threads.end()) return {};
  for (const Part& p : it->second) {
    if (p.file.header.failed) return p.file.path + " could not be written to its end";
    if (p.image->file.header.failed) return p.image->file.path + " could not be written to its end";
  }
  return {};
}

}  // namespace hindcast::server
