#include "decode/jitdump.h"

#include <algorithm>

namespace hindcast::decode {
namespace {

constexpr uint32_t kMagic = 0x4a695444, kMagicSwapped = 0x4454694a;  // "JiTD"
constexpr uint32_t kVersion = 1;
constexpr uint32_t kHeaderBytes = 40, kPrefixBytes = 16;
constexpr uint32_t kMachine386 = 3, kMachineX86_64 = 62;  // ELF e_machine
constexpr uint64_t kArchTimestamp = 1;

enum RecordId : uint32_t { kLoad = 0, kMove = 1, kDebugInfo = 2, kClose = 3, kUnwindingInfo = 4 };

bool wraps(uint64_t address, uint64_t bytes) { return address + bytes < address; }

class Parser {
 public:
  Parser(ByteSpan file, JitDump& out) : file_(file), out_(out) {}

  void run(uint64_t from) {
    for (uint64_t at = from; at < file_.size();) {
      out_.read_bytes = at;
      ByteReader r(file_.subspan(at));
      const uint32_t id = r.u32(), size = r.u32();
      const uint64_t time = r.u64();
      if (r.failed()) return stop("the file ends in a record");
      if (size < kPrefixBytes) return stop("a record of " + std::to_string(size) + " bytes");
      if (size > file_.size() - at) {
        note_cut(id, time, file_.subspan(at + kPrefixBytes));
        return stop("the file ends in a record");
      }
      if (!take(id, time, at + kPrefixBytes, file_.subspan(at + kPrefixBytes, size - kPrefixBytes))) return;
      at += size;
    }
    out_.read_bytes = file_.size();
  }

 private:
  void stop(std::string why) { out_.damage = std::move(why) + ", at byte " + std::to_string(out_.read_bytes); }
  bool stopped(std::string why) {
    stop(std::move(why));
    return false;
  }

  bool take(uint32_t id, uint64_t time, uint64_t at, ByteSpan body) {
    switch (id) {
      case kLoad:
        return load(time, at, body);
      case kMove:
        return move(time, body);
      case kDebugInfo:
        return debug_info(body);
      case kClose:
        out_.closed = true;
        return true;
      case kUnwindingInfo:
      default:
        return true;  // skipped by its size
    }
  }

  bool add(const JitRecord& record) {
    if (wraps(record.address, record.bytes) || wraps(record.old_address, record.bytes))
      return stopped("code that wraps the address space");
    if (out_.records.size() == kMostJitRecords)
      return stopped("more than " + std::to_string(kMostJitRecords) + " functions");
    out_.records.push_back(record);
    return true;
  }

  /// What load and move records begin with.
  static JitRecord place(bool moved, uint64_t time, ByteReader& r) {
    JitRecord j;
    j.moved = moved;
    j.time = time;
    j.pid = Pid(r.read<int32_t>());
    j.tid = Tid(r.read<int32_t>());
    r.skip(8);  // the address where it was to be: where it is, is another field
    if (moved) j.old_address = r.u64();
    j.address = r.u64();
    j.bytes = r.u64();
    j.index = r.u64();
    return j;
  }

  void note_cut(uint32_t id, uint64_t time, ByteSpan body) {
    if (id != kLoad && id != kMove) return;
    ByteReader r(body);
    const JitRecord j = place(id == kMove, time, r);
    if (!r.failed() && !wraps(j.address, j.bytes)) out_.cut = j;
  }

  bool load(uint64_t time, uint64_t at, ByteSpan body) {
    ByteReader r(body);
    JitRecord j = place(false, time, r);
    if (r.failed()) return stopped("a load record without its fields");
    j.name = r.c_string(r.left());
    if (r.failed()) return stopped("a load record whose name does not end");
    if (j.bytes > r.left()) return stopped("a load record with less code than it says");
    j.code_offset = at + (body.size() - r.left());
    if (lines_of_ != j.address) out_.lines.resize(first_line_);
    j.first_line = first_line_;
    j.lines = static_cast<uint32_t>(out_.lines.size()) - first_line_;
    std::stable_sort(out_.lines.begin() + first_line_, out_.lines.end(),
                     [](const JitLine& a, const JitLine& b) { return a.address < b.address; });
    first_line_ = static_cast<uint32_t>(out_.lines.size());
    return add(j);
  }

  bool move(uint64_t time, ByteSpan body) {
    ByteReader r(body);
    const JitRecord j = place(true, time, r);
    if (r.failed()) return stopped("a move record without its fields");
    return add(j);
  }

  /// Of the function that the next load record is about.
  bool debug_info(ByteSpan body) {
    out_.lines.resize(first_line_);
    ByteReader r(body);
    lines_of_ = r.u64();
    const uint64_t entries = r.u64();
    std::string_view file;
    for (uint64_t i = 0; i < entries; ++i) {
      JitLine l;
      l.address = r.u64();
      l.line = r.u32();
      r.skip(4);
      if (r.failed()) return stopped("a debug record with fewer lines than it says");
      const std::string_view name = r.c_string(r.left());
      if (r.failed()) return stopped("a debug record whose file name does not end");
      if (name != "\xff") file = name;  // which stands for the same file as before
      l.file = file;
      if (out_.lines.size() == kMostJitLines) return stopped("more than " + std::to_string(kMostJitLines) + " lines");
      out_.lines.push_back(l);
    }
    if (r.failed()) return stopped("a debug record without its fields");
    return true;
  }

  const ByteSpan file_;
  JitDump& out_;
  uint32_t first_line_ = 0;  // of those that no load record has taken yet
  uint64_t lines_of_ = 0;    // the function that these are of
};

}  // namespace

Result<JitDump> parse_jitdump(ByteSpan file) {
  const auto refused = [](Errc code, const std::string& found) {
    return Error{code, "cannot read a jitdump: its code has no names, and no time from which it was there", found,
                 "tell whoever made the JIT compiler; other code is not concerned"};
  };
  ByteReader r(file);
  const uint32_t magic = r.u32(), version = r.u32(), header_bytes = r.u32(), machine = r.u32();
  r.skip(4);
  JitDump out;
  out.pid = Pid(r.read<int32_t>());
  r.skip(8);
  const uint64_t flags = r.u64();
  if (r.failed()) return refused(Errc::bad_input, "it has " + std::to_string(file.size()) + " bytes");
  if (magic == kMagicSwapped) return refused(Errc::unsupported, "it was written by a machine of the other byte order");
  if (magic != kMagic) return refused(Errc::bad_input, "it does not begin with JiTD");
  if (version != kVersion) return refused(Errc::unsupported, "version " + std::to_string(version) + " instead of 1");
  if (machine != kMachineX86_64 && machine != kMachine386)
    return refused(Errc::unsupported, "ELF machine " + std::to_string(machine) + " instead of 62 (x86-64)");
  if (header_bytes < kHeaderBytes || header_bytes > file.size())
    return refused(Errc::bad_input, "a header of " + std::to_string(header_bytes) + " bytes");
  out.tsc_times = flags & kArchTimestamp;
  Parser(file, out).run(header_bytes);
  return out;
}

}  // namespace hindcast::decode
