// Raw PT bytes with code from a page cache or from ELF files at given addresses.
#pragma once

#include "hindcast/bytes.h"
#include "server/import/import.h"
#include "server/import/imported.h"

namespace hindcast::server {

/// Adds the pages as one memory image, sorted by address, with one placement in every process per run of adjacent pages.
///   addresses  little-endian u64 values, the guest-virtual address of each page; one whose low 12 bits are not zero was not
///              mapped when the pages were read: it and its page are left out
///   pages      4096 bytes for each address, in the same order
/// A page listed twice with the same bytes counts once. With different bytes nobody knows which of them ran: it is left out
/// and a note says so. Source: kAFL/libxdc page cache dumps.
/// Errors: bad_input when the sizes do not match or no page is mapped; too_large.
Result<void> add_page_cache(ByteSpan addresses, ByteSpan pages, Imported& out);

/// Adds an ELF file. With `by_records` it may go without a load address: then mmap records place it.
/// Errors: usage when it needs a load address and has none; those of place_elf.
Result<void> add_elf(const ElfInput& input, std::vector<uint8_t> bytes, bool by_records, Imported& out);

}  // namespace hindcast::server
