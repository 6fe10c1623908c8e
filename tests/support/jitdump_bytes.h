// Writes jitdump files for tests, record by record.
#pragma once

#include <string_view>
#include <vector>

#include "hindcast/bytes.h"

namespace hindcast::test {

class JitDumpBytes {
 public:
  explicit JitDumpBytes(uint32_t pid, uint64_t flags = 0, uint32_t machine = 62) {
    ByteWriter w(bytes_);
    w.u32(0x4a695444);
    w.u32(1);
    w.u32(40);
    w.u32(machine);
    w.u32(0);
    w.u32(pid);
    w.u64(0);
    w.u64(flags);
    pid_ = pid;
  }

  JitDumpBytes& load(uint64_t time, uint64_t address, const std::vector<uint8_t>& code, std::string_view name,
                     uint64_t index = 0) {
    std::vector<uint8_t> body;
    ByteWriter w(body);
    w.u32(pid_);
    w.u32(pid_);
    w.u64(address);
    w.u64(address);
    w.u64(code.size());
    w.u64(index);
    w.text(name);
    w.u8(0);
    w.bytes(code);
    return record(0, time, body);
  }
  JitDumpBytes& move(uint64_t time, uint64_t from, uint64_t to, uint64_t size, uint64_t index = 0) {
    std::vector<uint8_t> body;
    ByteWriter w(body);
    w.u32(pid_);
    w.u32(pid_);
    w.u64(to);
    w.u64(from);
    w.u64(to);
    w.u64(size);
    w.u64(index);
    return record(1, time, body);
  }
  struct Line {
    uint64_t address;
    uint32_t line;
    std::string_view file;
  };
  JitDumpBytes& debug_info(uint64_t address, const std::vector<Line>& lines) {
    std::vector<uint8_t> body;
    ByteWriter w(body);
    w.u64(address);
    w.u64(lines.size());
    for (const Line& l : lines) {
      w.u64(l.address);
      w.u32(l.line);
      w.u32(0);
      w.text(l.file);
      w.u8(0);
    }
    return record(2, 0, body);
  }
  JitDumpBytes& record(uint32_t id, uint64_t time, const std::vector<uint8_t>& body) {
    ByteWriter w(bytes_);
    w.u32(id);
    w.u32(static_cast<uint32_t>(16 + body.size()));
    w.u64(time);
    w.bytes(body);
    return *this;
  }

  const std::vector<uint8_t>& bytes() const { return bytes_; }

 private:
  std::vector<uint8_t> bytes_;
  uint32_t pid_;
};

}  // namespace hindcast::test
