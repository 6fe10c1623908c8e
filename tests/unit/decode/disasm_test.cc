#include "decode/disasm.h"

#include <gtest/gtest.h>

#include <vector>

namespace hindcast::decode {
namespace {

using Bytes = std::vector<uint8_t>;

TEST(Disasm, WritesAttSyntaxAsTheBinutilsDo) {
  Disassembler d;
  EXPECT_EQ(d.text(Ip(0x1000), Bytes{0x48, 0x89, 0xe7}), "movq   %rsp,%rdi");
  EXPECT_EQ(d.text(Ip(0x1000), Bytes{0xc3}), "retq");
}

TEST(Disasm, WritesIntelSyntaxWhenAsked) {
  Disassembler d(AsmSyntax::intel);
  EXPECT_EQ(d.text(Ip(0x1000), Bytes{0x48, 0x89, 0xe7}), "mov    rdi,rsp");
}

TEST(Disasm, DirectBranchesNameTheirTarget) {
  Disassembler d;
  EXPECT_EQ(d.text(Ip(0x1000), Bytes{0xeb, 0x0e}), "jmp    0x1010");
}

TEST(Disasm, WhatCapstoneDoesNotKnowIsItsBytes) {
  Disassembler d;
  EXPECT_EQ(d.text(Ip(0x1000), Bytes{0x0f, 0xff, 0xff}), ".byte 0x0f,0xff,0xff");
}

TEST(Disasm, ALengthThatCapstoneDisagreesWithIsItsBytes) {
  Disassembler d;
  EXPECT_EQ(d.text(Ip(0x1000), Bytes{0x90, 0x90}), ".byte 0x90,0x90");
}

TEST(Disasm, NoBytesIsNoText) {
  Disassembler d;
  EXPECT_EQ(d.text(Ip(0x1000), {}), ".byte");
}

TEST(Disasm, AMovedOneStillWorks) {
  Disassembler a, b(AsmSyntax::intel);
  b = std::move(a);
  EXPECT_EQ(b.text(Ip(0), Bytes{0xc3}), "retq");
}

}  // namespace
}  // namespace hindcast::decode
