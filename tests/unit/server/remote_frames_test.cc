#include "server/remote_frames.h"

#include <gtest/gtest.h>

namespace hindcast::server {
namespace {

std::string frame(char kind, const std::string& bytes) {
  std::string s(1, kind);
  for (int i = 0; i < 4; ++i) s += static_cast<char>(bytes.size() >> (8 * i));
  return s + bytes;
}
const std::string kExit5 = frame(3, std::string("\5\0\0\0", 4));

struct Taken {
  std::string out, err;
  Result<void> taken;
  Result<int> code = Error{Errc::io, {}, {}, {}};
};
Taken take(const std::string& stream, size_t piece) {
  Taken t;
  RunFrames frames([&](std::string_view b) { return t.out += b, true; },
                   [&](std::string_view b) { return t.err += b, true; });
  for (size_t at = 0; at < stream.size() && t.taken.ok(); at += piece)
    t.taken = frames.take(std::string_view(stream).substr(at, piece));
  t.code = frames.finish();
  return t;
}

TEST(RunFrames, PiecesOfAnySizeGiveTheSame) {
  const std::string big(70000, 'x');
  const std::string stream =
      frame(0, "") + frame(1, "out ") + frame(2, "err") + frame(1, "") + frame(1, big) + frame(0, "") + kExit5;
  for (const size_t piece : {size_t{1}, size_t{2}, size_t{7}, size_t{4096}, stream.size()}) {
    const Taken t = take(stream, piece);
    ASSERT_TRUE(t.taken.ok() && t.code.ok());
    EXPECT_EQ(*t.code, 5);
    EXPECT_EQ(t.err, "err");
    EXPECT_TRUE(t.out == "out " + big);
  }
}

TEST(RunFrames, AnAnswerThatEndsEarlySaysSo) {
  const std::string stream = frame(1, "out") + kExit5;
  for (size_t n = 0; n < stream.size(); ++n) {
    const Taken t = take(stream.substr(0, n), 3);
    EXPECT_TRUE(t.taken.ok());
    ASSERT_FALSE(t.code.ok()) << n;
    EXPECT_NE(t.code.error().what.find("cut"), std::string::npos);
  }
}

TEST(RunFrames, WhatNoServerSendsIsRefused) {
  const auto refused = [](const std::string& stream) {
    const Taken t = take(stream, 4096);
    return !t.taken.ok() && t.taken.error().code == Errc::bad_input;
  };
  EXPECT_TRUE(refused(frame(4, "x")));                         // an unknown kind
  EXPECT_TRUE(refused(frame(0, "x")));                         // a sign of life with bytes
  EXPECT_TRUE(refused(frame(3, "x")));                         // an exit code of one byte
  EXPECT_TRUE(refused(frame(3, std::string("\0\1\0\0", 4))));  // 256
  EXPECT_TRUE(refused(std::string("\1\xff\xff\xff\xff", 5)));  // longer than any
  EXPECT_TRUE(refused(kExit5 + "x"));
}

TEST(RunFrames, WhoWantsNoMoreIsHeeded) {
  RunFrames frames([](std::string_view) { return false; }, [](std::string_view) { return true; });
  EXPECT_EQ(frames.take(frame(1, "x")).error().code, Errc::io);
}

}  // namespace
}  // namespace hindcast::server
