// Which files an importer may open, and how a folder's format is found.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "server/import/import.h"
#include "server/import/input_files.h"
#include "tests/unit/server/import_support.h"
#include "transport/bundle_reader.h"

namespace hindcast::server {
namespace {

namespace fs = std::filesystem;

class Folder : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "hindcast_files_XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    root_ = name;
    fs::create_directory(root_ / "in");
  }
  void TearDown() override { fs::remove_all(root_); }
  void put(const std::string& name, const std::vector<uint8_t>& bytes = {'x'}) {
    std::ofstream(root_ / name, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  }
  std::string in() const { return (root_ / "in").string(); }
  std::string out() const { return (root_ / "out.hcb").string(); }
  fs::path root_;
};

TEST_F(Folder, FilesInsideAreRead) {
  put("in/a");
  fs::create_directory(root_ / "in/sub");
  put("in/sub/b");
  fs::create_symlink("sub/b", root_ / "in/link");
  const DiskFolder folder(in());
  for (const char* name : {"a", "sub/b", "./a", "link", "sub//b"}) EXPECT_TRUE(folder.read(name, 10).ok()) << name;
  EXPECT_EQ(folder.read("gone", 10).error().code, Errc::not_found);
}

TEST_F(Folder, NamesAndLinksThatLeadOutAreRefused) {
  put("secret");
  put("in/a");
  fs::create_symlink("../secret", root_ / "in/link");
  fs::create_symlink("..", root_ / "in/up");
  fs::create_directory(root_ / "in2");
  put("in2/x");
  fs::create_symlink("../in2/x", root_ / "in/sibling");  // its path begins like the folder's
  const DiskFolder folder(in());
  for (const char* name : {"../secret", "link", "up/secret", "/etc/passwd", "", "..", "a/../../secret", "sibling"}) {
    const auto r = folder.read(name, 10);
    ASSERT_FALSE(r.ok()) << name;
    EXPECT_EQ(r.error().code, Errc::bad_input) << name;
  }
}

TEST_F(Folder, OnlyRegularFilesOfBoundedSizeAreRead) {
  ASSERT_EQ(mkfifo((root_ / "in/pipe").c_str(), 0600), 0);
  fs::create_directory(root_ / "in/dir");
  put("in/long", std::vector<uint8_t>(11));
  const DiskFolder folder(in());
  EXPECT_EQ(folder.read("pipe", 10).error().code, Errc::bad_input);
  EXPECT_EQ(folder.read("dir", 10).error().code, Errc::bad_input);
  EXPECT_EQ(folder.read("long", 10).error().code, Errc::too_large);
  EXPECT_EQ(read_input_file("/dev/zero").error().code, Errc::bad_input);
}

TEST_F(Folder, AnUnknownFolderIsNotGuessedAt) {
  put("in/readme.txt");
  ImportRequest r;
  r.input = in();
  const auto done = import_to_bundle(r, out());
  ASSERT_FALSE(done.ok());
  EXPECT_EQ(done.error().code, Errc::not_found);
  EXPECT_FALSE(fs::exists(out()));
}

TEST_F(Folder, APtFileAloneIsARawTraceWithoutCode) {
  put("trace.pt", std::vector<uint8_t>(32, 0));
  ImportRequest r;
  r.input = (root_ / "trace.pt").string();
  ASSERT_TRUE(import_to_bundle(r, out()).ok());
  auto reader = transport::BundleReader::open(out());
  ASSERT_TRUE(reader.ok());
  const SnapshotInfo& info = reader->snapshot(0);
  EXPECT_EQ(info.source, "import:raw");
  EXPECT_EQ(info.host, "trace.pt");
  EXPECT_EQ(info.streams.size(), 1u);
  bool no_psb = false, no_code = false;
  for (const std::string& note : info.notes) {
    no_psb |= note.find("no PSB") != note.npos;
    no_code |= note.find("no code") != note.npos;
  }
  EXPECT_TRUE(no_psb);
  EXPECT_TRUE(no_code);
}

TEST_F(Folder, AnElfAtAGivenAddressIsPlacedThere) {
  put("trace.pt", std::vector<uint8_t>(32, 0));
  put("prog", SmallElf().bytes());
  ImportRequest r;
  r.input = (root_ / "trace.pt").string();
  r.elfs = {*parse_elf_input((root_ / "prog").string() + "@0x10000")};
  ASSERT_TRUE(import_to_bundle(r, out()).ok());
  auto reader = transport::BundleReader::open(out());
  ASSERT_TRUE(reader.ok());
  ASSERT_EQ(reader->snapshot(0).placements.size(), 1u);
  EXPECT_EQ(reader->snapshot(0).placements[0].address, 0x10000u);
  EXPECT_EQ(*reader->read_image(0, 1), SmallElf().bytes());
}

TEST_F(Folder, WhatDoesNotBelongToTheFormatIsRefused) {
  put("trace.pt");
  put("trace.json");
  ImportRequest raw;
  raw.input = (root_ / "trace.pt").string();
  raw.page_addresses = raw.input;
  EXPECT_EQ(import_to_bundle(raw, out()).error().code, Errc::usage);
  ImportRequest lldb;
  lldb.input = (root_ / "trace.json").string();
  lldb.sideband = {lldb.input};
  EXPECT_EQ(import_to_bundle(lldb, out()).error().code, Errc::usage);
  ImportRequest pevent;
  pevent.input = (root_ / "trace.pt").string();
  pevent.more_pt = {pevent.input};
  pevent.sideband = {pevent.input};
  EXPECT_EQ(import_to_bundle(pevent, out()).error().code, Errc::usage);
  EXPECT_FALSE(fs::exists(out()));
}

}  // namespace
}  // namespace hindcast::server
