#include "tests/support/truth_reader.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <tuple>

namespace hindcast::test {
namespace {

namespace fs = std::filesystem;

Result<Mapping> map_truth_file(const fs::path& path, sim::TruthHeader& header) {
  HC_TRY(Mapping file, map_file(path.string()));
  if (file.size() < sizeof header)
    return Error{Errc::bad_input, "truth file without a header: " + path.string(), {}, {}};
  std::memcpy(&header, file.data(), sizeof header);
  if (header.magic != sim::kTruthMagic || header.version != sim::kTruthVersion)
    return Error{Errc::bad_input, "not a truth file: " + path.string(), {}, {}};
  return file;
}

Result<void> read_blocks(const fs::path& path, TruthProcess& process) {
  sim::TruthHeader header;
  HC_TRY(Mapping file, map_truth_file(path, header));
  process.parent_pid = header.parent_pid;
  process.tsc = header.tsc;
  const uint8_t* at = file.bytes().data() + sizeof header;
  const uint8_t* end = file.bytes().data() + file.size();
  sim::TruthBlock block;
  while (static_cast<size_t>(end - at) >= sizeof block) {
    std::memcpy(&block, at, sizeof block);
    if (block.number == 0) break;
    at += sizeof block;
    const size_t bytes = block.instructions * sizeof(sim::TruthInstruction);
    if (static_cast<size_t>(end - at) < bytes)
      return Error{Errc::bad_input, "truth file with a cut block: " + path.string(), {}, {}};
    auto& insns = process.blocks[block.number];
    insns.resize(block.instructions);
    std::memcpy(insns.data(), at, bytes);
    at += bytes;
  }
  return {};
}

const uint32_t* first_word(const TruthThread& t) {
  return reinterpret_cast<const uint32_t*>(t.file.bytes().data() + sizeof(sim::TruthHeader));
}
const uint32_t* end_of_words(const TruthThread& t) {
  const uint32_t* end = reinterpret_cast<const uint32_t*>(t.file.bytes().data() + t.file.size() / 4 * 4);
  const uint32_t* at = first_word(t);
  while (at < end && *at != 0) {
    const uint32_t w = *at++;
    if (w & 0x80000000u) at += sim::truth_words_after(static_cast<sim::TruthWord>(w >> 24 & 0x7f));
  }
  return std::min(at, end);
}

Result<TruthThread> read_thread(const fs::path& path, const TruthProcess* process) {
  sim::TruthHeader header;
  HC_TRY(Mapping file, map_truth_file(path, header));
  TruthThread t;
  t.process = process;
  t.tid = header.tid;
  t.tsc = header.tsc;
  t.failed = header.failed != 0;
  t.file = std::move(file);
  const uint32_t* end = end_of_words(t);
  for (const uint32_t* at = first_word(t); at < end; ++at) {
    const uint32_t w = *at;
    const auto type = static_cast<sim::TruthWord>(w >> 24 & 0x7f);
    t.ended = (w & 0x80000000u) && type == sim::TruthWord::end;
    if (w & 0x80000000u) {
      at += sim::truth_words_after(type);
    } else if (!process->blocks.count(w)) {
      return Error{
          Errc::bad_input, "truth file names an unknown block " + std::to_string(w) + ": " + path.string(), {}, {}};
    }
  }
  return t;
}

}  // namespace

TruthCursor::TruthCursor(const TruthThread& thread)
    : thread_(thread), at_(first_word(thread)), end_(end_of_words(thread)) {}

bool TruthCursor::next_block() {
  while (at_ < end_) {
    const uint32_t w = *at_++;
    if ((w & 0x80000000u) == 0) {
      const auto& insns = thread_.process->blocks.at(w);
      size_t n = insns.size();
      if (at_ == end_) return false;  // killed: how far it ran is not known
      if ((*at_ & 0xff000000u) == sim::truth_word(sim::TruthWord::partial, 0)) n = *at_++ & 0xffffff;
      insn_ = insns.data();
      insn_end_ = insn_ + std::min(n, insns.size());
      if (n > 0) return true;
      continue;
    }
    const auto type = static_cast<sim::TruthWord>(w >> 24 & 0x7f);
    const uint32_t more = sim::truth_words_after(type);
    if (static_cast<size_t>(end_ - at_) < more) return false;
    const auto u64 = [&](int i) { return at_[i] | uint64_t{at_[i + 1]} << 32; };
    if (type == sim::TruthWord::mark) marks_.push_back({index_, u64(0), w & 0xffffff});
    if (type == sim::TruthWord::signal) signals_.push_back({index_, u64(0), w & 0xffffff});
    at_ += more;
  }
  return false;
}

bool TruthCursor::next(TruthStep& step) {
  if (insn_ == insn_end_ && !next_block()) return false;
  step = {insn_->ip, index_++, insn_->length, insn_->kind, depth_};
  if (insn_->kind == sim::TruthClass::call) ++depth_;
  if (insn_->kind == sim::TruthClass::ret) --depth_;
  ++insn_;
  return true;
}

Result<Truth> Truth::read(const std::string& directory) {
  Truth truth;
  std::error_code error;
  fs::directory_iterator files(directory, error);
  if (error) return Error{Errc::io, "cannot list " + directory + ": " + error.message(), {}, {}};
  std::vector<fs::path> thread_files;
  std::map<std::pair<int, unsigned>, TruthProcess*> by_image;
  for (const auto& file : files) {
    const std::string name = file.path().filename().string();
    int pid = 0, used = 0;
    unsigned image = 0;
    if (std::sscanf(name.c_str(), "%d.%u.blocks%n", &pid, &image, &used) == 2 &&
        used == static_cast<int>(name.size())) {
      auto process = std::make_unique<TruthProcess>();
      process->pid = pid;
      process->image = image;
      HC_TRY_VOID(read_blocks(file.path(), *process));
      by_image[{pid, image}] = process.get();
      truth.processes.push_back(std::move(process));
    } else {
      thread_files.push_back(file.path());
    }
  }
  for (const auto& path : thread_files) {
    int pid = 0, tid = 0;
    unsigned image = 0;
    if (std::sscanf(path.filename().c_str(), "%d.%u.%d.", &pid, &image, &tid) != 3 || !by_image.count({pid, image}))
      return Error{Errc::bad_input, "a stray file among the truth: " + path.string(), {}, {}};
    HC_TRY(TruthThread t, read_thread(path, by_image.at({pid, image})));
    truth.threads.push_back(std::move(t));
  }
  std::sort(truth.processes.begin(), truth.processes.end(),
            [](const auto& a, const auto& b) { return std::pair(a->pid, a->image) < std::pair(b->pid, b->image); });
  std::sort(truth.threads.begin(), truth.threads.end(), [](const TruthThread& a, const TruthThread& b) {
    return std::tuple(a.process->pid, a.process->image, a.tsc) < std::tuple(b.process->pid, b.process->image, b.tsc);
  });
  return truth;
}

std::vector<uint64_t> Truth::addresses(const TruthThread& thread) {
  std::vector<uint64_t> all;
  TruthCursor cursor(thread);
  for (TruthStep s; cursor.next(s);) all.push_back(s.ip);
  return all;
}

}  // namespace hindcast::test
