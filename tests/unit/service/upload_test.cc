// Bundles that come by hand: whole or not at all, and each content once.
#include "server/service/upload.h"

#include "server/service/store_check.h"
#include "tests/unit/service/store_fixture.h"
#include "transport/names.h"

namespace hindcast::server {
namespace {

namespace fs = std::filesystem;

class UploadTest : public StoreFixture {
 protected:
  Result<UploadOutcome> upload(const std::vector<uint8_t>& bytes, const std::string& reason = "by hand") {
    auto upload = must(uploads_->begin());
    for (size_t at = 0; at < bytes.size(); at += 5000)
      HC_TRY_VOID(upload->write({bytes.data() + at, std::min<size_t>(5000, bytes.size() - at)}));
    return upload->finish(reason);
  }
  size_t leftovers() {
    return static_cast<size_t>(std::distance(fs::directory_iterator(folder_ / "uploads"), fs::directory_iterator()));
  }
};

TEST_F(UploadTest, IsStoredUnderItsHostAndListed) {
  const auto bytes = bundle("web 1/x", "old-incident");
  const UploadOutcome outcome = must(upload(bytes));
  EXPECT_TRUE(outcome.created);
  const auto incident = must(catalog_->incident(outcome.incident));
  ASSERT_TRUE(incident);
  EXPECT_EQ(incident->trigger, "upload");
  EXPECT_EQ(incident->reason, "by hand");
  EXPECT_EQ(incident->hosts.at(0).host, "web_1_x");
  EXPECT_EQ(incident->hosts[0].bytes, bytes.size());
  EXPECT_EQ(test::bytes_of_file(sink_->path_of("web_1_x", outcome.incident)), bytes);
  EXPECT_EQ(sink_->used(), bytes.size());
  EXPECT_EQ(leftovers(), 0u);
  EXPECT_EQ(must(check_store(*catalog_, bundles())).added, 0u);
}

TEST_F(UploadTest, TheSameContentIsThereOnce) {
  const auto bytes = bundle("a", "i1");
  const UploadOutcome first = must(upload(bytes)), again = must(upload(bytes));
  EXPECT_FALSE(again.created);
  EXPECT_EQ(again.incident, first.incident);
  EXPECT_EQ(sink_->used(), bytes.size());
  // One that a host shipped counts, too: its digest is not in the catalog yet.
  const auto shipped = bundle("b", "i2", 9);
  put("b", "i2", shipped);
  must(check_store(*catalog_, bundles()));
  const UploadOutcome third = must(upload(shipped));
  EXPECT_FALSE(third.created);
  EXPECT_EQ(third.incident, "i2");
  EXPECT_NE(must(catalog_->stored(shipped.size()))[0].digest, "");
  // Other content of the same size is another bundle.
  auto other = bundle("a", "i1", 2);
  ASSERT_EQ(must(upload(other)).created, true);
  EXPECT_EQ(leftovers(), 0u);
}

TEST_F(UploadTest, DamageAnywhereIsRefused) {
  const auto good = bundle("a", "i1");
  for (size_t at = 3; at < good.size(); at += good.size() / 40) {
    auto bad = good;
    bad[at] ^= 0x40;
    const auto r = upload(bad);
    EXPECT_FALSE(r.ok()) << "byte " << at;
  }
  for (const size_t size : {size_t{0}, size_t{1}, good.size() / 2, good.size() - 1})
    EXPECT_FALSE(upload({good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size)}).ok()) << size;
  EXPECT_EQ(leftovers(), 0u);
  EXPECT_EQ(sink_->used(), 0u);
  EXPECT_EQ(must(catalog_->totals()).incidents, 0u);
  EXPECT_TRUE(must(upload(good)).created);
}

TEST_F(UploadTest, AFullStoreTakesNothingAndHasRoomAgainAfterwards) {
  const auto bytes = bundle("a", "i1");
  open(bytes.size() - 1);
  const auto r = upload(bytes);
  ASSERT_FALSE(r.ok());
  EXPECT_EQ(r.error().code, Errc::io);
  EXPECT_NE(r.error().what.find("full"), std::string::npos);
  EXPECT_EQ(sink_->used(), 0u);
  EXPECT_EQ(leftovers(), 0u);
  open(bytes.size());
  EXPECT_TRUE(must(upload(bytes)).created);
}

TEST_F(UploadTest, TheLimitOfOneBundleHolds) {
  uploads_ = must(Uploads::create(folder_ / "uploads", 100, *catalog_, *sink_, log_));
  EXPECT_EQ(upload(bundle("a", "i1")).error().code, Errc::too_large);
}

TEST_F(UploadTest, WhatAKillLeftIsRemoved) {
  std::ofstream(folder_ / "uploads/7.part") << "half";
  open();
  EXPECT_EQ(leftovers(), 0u);
}

TEST(AsName, IsAlwaysAName) {
  for (const std::string& text : {std::string(), std::string("web-1"), std::string("../etc"), std::string("-x"),
                                  std::string("a b"), std::string("\xc3\xa4\0b", 4), std::string(500, 'x')})
    EXPECT_TRUE(transport::is_name(as_name(text))) << text;
  EXPECT_EQ(as_name("web-1.example_x"), "web-1.example_x");
}

}  // namespace
}  // namespace hindcast::server
