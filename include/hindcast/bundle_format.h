// The bundle file, byte by byte: snapshots on disk or by mail, in one self-describing, versioned, checksummed
// file.
//
//   file     := FileHeader chunk* index+ Trailer
//   chunk    := ChunkHeader stored            stored: ChunkHeader.stored_bytes bytes
//   snapshot := preliminary? (stream | image)* manifest        in this order; snapshots one after the other
//   index    := chunk of type index; its raw bytes are IndexEntry values, one for each chunk before it, in
//   file order
//
// All integers are little-endian. Nothing lies between these parts: a chunk begins where the one before it
// ends. So the file can be read in two ways that must agree: by the index that the trailer points to (opening
// reads no data), or, when a crash or a cut copy lost the end, by walking the chunk headers from the front
// until the first that is not whole.
//
// Checksums are XXH3-64 (seed 0). A header's is over its bytes before the checksum; a chunk's is over its raw
// bytes, that is, after decompression. Damage is found where it is used: a broken chunk costs its own bytes
// and no others.
//
// A stream's bytes are its chunks in file order; `offset` states where each begins and has no gaps and no
// overlaps. The same holds for images, for a manifest longer than a chunk and for the index.
//
// Manifest: one JSON object (UTF-8), SnapshotInfo of cut.h under the names of its fields. Keys a reader does
// not know are ignored; missing ones have the values that cut.h and pt_config.h initialise them with, but
// these are required: manifest_version; id and kind of streams and images; image of placements. Texts that
// are not UTF-8 are {"hex": "..."}. Addresses are "0x..." text. Absent "to" of a placement: for ever. kind is
// "pt", "sideband", "clocks", "waits", "net" for streams (a reader leaves a stream of any other kind out and
// says so), "elf", "memory", "jitdump", "perf_map" or "kallsyms" for images (the same; their placements go with
// them). An image of the kinds jitdump and perf_map is what a process itself said of the code that it made: whose it
// is, is "pid".
// "unknown_code" lists memory that may have been written in a time, so that its code is not known (UnknownCode
// of cut.h); a reader that does not know it takes the placements alone. A preliminary manifest is the same,
// written before the data; bytes
// of streams and images are what was expected then, or 0. It is only used when the manifest is missing or
// damaged.
//
// Versions: a reader refuses a file whose major number it does not know. A newer minor number only adds:
// chunk types and manifest keys that older readers skip. Reserved fields are written as 0 and ignored.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace hindcast::bundle {

static_assert(std::endian::native == std::endian::little, "the structs below are copied to and from the file");

inline constexpr uint16_t kMajor = 1;
inline constexpr uint16_t kMinor = 0;
inline constexpr uint32_t kManifestVersion = 1;

// As in PNG, the bytes around the name show a transfer that changed line ends or dropped bit 7.
inline constexpr uint8_t kFileMagic[8] = {0x89, 'H', 'C', 'B', '\r', '\n', 0x1a, '\n'};
inline constexpr uint8_t kTrailerMagic[8] = {'H', 'C', 'B', 'E', 'N', 'D', '\r', '\n'};
inline constexpr uint32_t kChunkMagic = 0x6b634348;  // "HCck"

enum class ChunkType : uint8_t {
  manifest = 1,
  preliminary = 2,
  stream = 3,
  image = 4,
  index = 5,
};

/// How `stored` is made of the raw bytes.
enum ChunkFlag : uint8_t {
  kZstd = 1,  // one zstd frame that states its content size; without this flag the bytes are stored as they are
};
inline constexpr uint8_t kKnownChunkFlags = kZstd;

struct FileHeader {
  uint8_t magic[8];   //  0  kFileMagic
  uint16_t major;     //  8
  uint16_t minor;     // 10
  uint32_t reserved;  // 12
  uint64_t checksum;  // 16  of bytes 0..15
};
static_assert(sizeof(FileHeader) == 24);

struct ChunkHeader {
  uint32_t magic;         //  0  kChunkMagic
  uint8_t type;           //  4  ChunkType
  uint8_t flags;          //  5  ChunkFlag
  uint16_t reserved;      //  6
  uint32_t snapshot;      //  8  number of the snapshot it belongs to: 0, 1, ...; index: how many there are
  uint32_t id;            // 12  stream or image id; 0 for the other types
  uint64_t offset;        // 16  of the first raw byte in its stream, image, manifest or index
  uint32_t raw_bytes;     // 24  1 .. kMaxChunkRawBytes
  uint32_t stored_bytes;  // 28  1 .. kMaxChunkStoredBytes
  uint64_t raw_checksum;  // 32
  uint64_t checksum;      // 40  of bytes 0..39
};
static_assert(sizeof(ChunkHeader) == 48);
static_assert(offsetof(ChunkHeader, offset) == 16 && offsetof(ChunkHeader, checksum) == 40);

struct IndexEntry {
  uint64_t file_offset;  //  0  of the ChunkHeader
  ChunkHeader header;    //  8  a copy; must equal the one in the file
};
static_assert(sizeof(IndexEntry) == 56);

struct Trailer {
  uint64_t index_offset;  //  0  file offset of the first index chunk
  uint64_t index_bytes;   //  8  raw bytes of the index: sizeof(IndexEntry) * number of chunks before it
  uint64_t file_bytes;    // 16  size of the whole file
  uint64_t checksum;      // 24  of bytes 0..23
  uint8_t magic[8];       // 32  kTrailerMagic: the last bytes of the file
};
static_assert(sizeof(Trailer) == 40);

static_assert(std::is_trivially_copyable_v<IndexEntry> && std::is_trivially_copyable_v<Trailer> &&
              std::is_trivially_copyable_v<FileHeader>);

// Limits, checked before anything is allocated. A writer keeps them too.
inline constexpr uint32_t kMaxChunkRawBytes = uint32_t{4} << 20;
inline constexpr uint32_t kMaxChunkStoredBytes = kMaxChunkRawBytes + (kMaxChunkRawBytes >> 7);
inline constexpr uint64_t kMaxManifestBytes = uint64_t{16} << 20;
inline constexpr uint32_t kMaxManifestDepth = 16;  // of nested JSON
inline constexpr uint64_t kMaxChunks = uint64_t{4} << 20;
inline constexpr uint32_t kMaxSnapshots = 4096;
inline constexpr size_t kMaxStreams = 65536;  // in a snapshot, like the next ones
inline constexpr size_t kMaxImages = 65536;
inline constexpr size_t kMaxPlacements = size_t{1} << 18;
inline constexpr size_t kMaxUnknownCode = size_t{1} << 18;
inline constexpr size_t kMaxCuts = 65536;  // in a stream
inline constexpr size_t kMaxNotes = 4096;
inline constexpr size_t kMaxRootPids = 65536;
inline constexpr size_t kMaxTextBytes = 4096;  // a path, host, build-id, note ...
inline constexpr size_t kMaxCommandBytes = size_t{1} << 20;
inline constexpr uint16_t kMaxTimeShift = 32;  // of TscConversion: more would overflow its arithmetic
/// The most that one call of a reader returns; longer streams are read piece by piece.
inline constexpr uint64_t kMaxReadBytes = uint64_t{4} << 30;

}  // namespace hindcast::bundle
