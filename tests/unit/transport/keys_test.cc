// Key files and the allow-list: what is refused, and that all of it is said at once.
#include "transport/keys.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>

#include "tests/support/run_program.h"

namespace hindcast::transport {
namespace {

mode_t mode_of(const std::string& path) {
  struct stat st {};
  EXPECT_EQ(::stat(path.c_str(), &st), 0);
  return st.st_mode & 0777;
}

TEST(Keys, WhatIsWrittenIsRead) {
  test::TempFolder folder;
  const KeyPair keys = make_key_pair();
  ASSERT_TRUE(write_key_files(folder / "host", keys).ok());
  EXPECT_EQ(mode_of(folder / "host.secret"), 0600u);
  EXPECT_EQ(mode_of(folder / "host.public"), 0644u);
  auto secret = read_secret_key_file(folder / "host.secret");
  ASSERT_TRUE(secret.ok()) << secret.error().text();
  EXPECT_EQ(secret->secret_key, keys.secret_key);
  EXPECT_EQ(secret->public_key, keys.public_key);
  EXPECT_EQ(*read_public_key_file(folder / "host.public"), keys.public_key);
}

TEST(Keys, AreNeverOverwritten) {
  test::TempFolder folder;
  const KeyPair keys = make_key_pair();
  ASSERT_TRUE(write_key_files(folder / "host", keys).ok());
  EXPECT_EQ(write_key_files(folder / "host", make_key_pair()).error().code, Errc::usage);
  EXPECT_EQ(read_secret_key_file(folder / "host.secret")->secret_key, keys.secret_key);
  // Nor is a secret left behind whose public half could not be written.
  std::ofstream(folder / "other.public") << "mine";
  EXPECT_FALSE(write_key_files(folder / "other", keys).ok());
  EXPECT_FALSE(std::ifstream(folder / "other.secret").is_open());
}

TEST(Keys, ASecretThatOthersCanReadIsRefusedWithTheFix) {
  test::TempFolder folder;
  ASSERT_TRUE(write_key_files(folder / "host", make_key_pair()).ok());
  ASSERT_EQ(::chmod((folder / "host.secret").c_str(), 0640), 0);
  const auto r = read_secret_key_file(folder / "host.secret");
  ASSERT_FALSE(r.ok());
  EXPECT_EQ(r.error().code, Errc::permission);
  EXPECT_NE(r.error().found.find("0640"), std::string::npos);
  EXPECT_EQ(r.error().fix, "chmod 600 " + (folder / "host.secret"));
}

TEST(Keys, HalvesOfDifferentPairsAreRefused) {
  test::TempFolder folder;
  KeyPair mixed = make_key_pair();
  mixed.public_key = make_key_pair().public_key;
  ASSERT_TRUE(write_key_files(folder / "host", mixed).ok());
  EXPECT_FALSE(read_secret_key_file(folder / "host.secret").ok());
}

TEST(Keys, ASecretInAPublicFileIsRefused) {
  test::TempFolder folder;
  const KeyPair keys = make_key_pair();
  std::ofstream(folder / "k.public") << "public " << keys.public_key << "\nsecret " << keys.secret_key << "\n";
  ASSERT_EQ(::chmod((folder / "k.public").c_str(), 0644), 0);
  const auto r = read_public_key_file(folder / "k.public");
  ASSERT_FALSE(r.ok());
  EXPECT_EQ(r.error().text().find(keys.secret_key), std::string::npos);  // and is not shown
}

TEST(AllowList, GivesEachKeyItsHost) {
  const std::string a = make_key_pair().public_key, b = make_key_pair().public_key;
  auto list = AllowList::parse("# hosts\n\nweb-1 " + a + "\r\n  web-2\t" + b + "\n", "text");
  ASSERT_TRUE(list.ok()) << list.error().text();
  EXPECT_EQ(*list->host_of(a), "web-1");
  EXPECT_EQ(*list->host_of(b), "web-2");
  EXPECT_EQ(list->host_of(make_key_pair().public_key), nullptr);
  EXPECT_TRUE(list->revoke(a));
  EXPECT_EQ(list->host_of(a), nullptr);
}

TEST(AllowList, SaysAllThatIsWrongAtOnce) {
  const std::string a = make_key_pair().public_key;
  auto list = AllowList::parse("web-1 " + a + "\nweb-2 " + a + "\n../x " + make_key_pair().public_key +
                                   "\nweb-3 tooshort\nweb-4\nweb-5 " + std::string(40, '\x80') + "\n",
                               "hosts.keys");
  ASSERT_FALSE(list.ok());
  for (const char* part : {"line 2", "line 3", "line 4", "line 5", "line 6"})
    EXPECT_NE(list.error().found.find(part), std::string::npos) << part << ": " << list.error().found;
  EXPECT_EQ(list.error().found.find("line 1"), std::string::npos);
}

TEST(AllowList, AFileThatOthersCanWriteIsRefused) {
  test::TempFolder folder;
  std::ofstream(folder / "hosts") << "web-1 " << make_key_pair().public_key << "\n";
  ASSERT_EQ(::chmod((folder / "hosts").c_str(), 0666), 0);
  EXPECT_EQ(AllowList::read_file(folder / "hosts").error().code, Errc::permission);
  ASSERT_EQ(::chmod((folder / "hosts").c_str(), 0644), 0);
  EXPECT_TRUE(AllowList::read_file(folder / "hosts").ok());
}

TEST(AllowList, NamesEachHostOnce) {
  AllowList list;
  EXPECT_TRUE(list.hosts().empty());
  for (const char* host : {"web-2", "web-1", "web-2"}) EXPECT_TRUE(list.add(host, make_key_pair().public_key));
  EXPECT_EQ(list.hosts(), (std::vector<std::string>{"web-1", "web-2"}));
}

}  // namespace
}  // namespace hindcast::transport
