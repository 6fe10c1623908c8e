// The GNU build-id note of an ELF file: what tells two builds apart when their paths are the same.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "hindcast/bytes.h"
#include "hindcast/fd.h"

namespace hindcast::capture {

/// Reads bytes at an offset; returns how many it got, 0 at the end or on error.
using ReadAt = std::function<size_t(uint64_t offset, std::span<uint8_t> out)>;

struct ElfIdentity {
  bool is_elf = false;
  std::string build_id;  // raw bytes, 1 to 20; empty when there is no note
};

/// Looks at the header and the PT_NOTE segments only: at most 1024 program headers and 1 MiB of notes are
/// read, so the cost is bounded whatever the file says. A damaged file gives what could be read before the
/// damage.
ElfIdentity read_elf_identity(const ReadAt& read);
ElfIdentity read_elf_identity(const Fd& fd);

/// The build-id in a block of notes; none when it holds none. Source: gABI "Note Section"; entries are
/// aligned to 4.
std::optional<std::string> find_build_id_note(ByteSpan notes);

/// Lower-case hex.
std::string to_hex(std::string_view bytes);

}  // namespace hindcast::capture
