#include "capture/sim/x86_terminator.h"

#include <gtest/gtest.h>

namespace hindcast::sim {
namespace {

TerminatorInfo classify(std::vector<uint8_t> bytes) { return classify_terminator(0x1000, bytes); }

TEST(SimTerminator, ConditionalBranchesHaveATarget) {
  EXPECT_EQ(classify({0x74, 0x10}).kind, Terminator::cond);  // je
  EXPECT_EQ(classify({0x74, 0x10}).target, 0x1012u);
  EXPECT_EQ(classify({0x0f, 0x85, 0xfa, 0xff, 0xff, 0xff}).target, 0x1000u);                           // jne, backwards
  for (uint8_t op : {0xe0, 0xe1, 0xe2, 0xe3}) EXPECT_EQ(classify({op, 0xfe}).kind, Terminator::cond);  // loop, jrcxz
  EXPECT_EQ(classify({0x67, 0xe3, 0xfd}).target, 0x1000u);                                             // jecxz
}

TEST(SimTerminator, CallsAndJumps) {
  EXPECT_EQ(classify({0xeb, 0x05}).kind, Terminator::jump);
  EXPECT_EQ(classify({0xe9, 0, 1, 0, 0}).target, 0x1105u);
  EXPECT_EQ(classify({0xe8, 0, 1, 0, 0}).kind, Terminator::call);
  EXPECT_EQ(classify({0xe8, 0, 0, 0, 0}).kind, Terminator::call_zero);
  EXPECT_EQ(classify({0xff, 0xe0}).kind, Terminator::indirect_jump);
  EXPECT_EQ(classify({0x3e, 0xff, 0xe0}).kind, Terminator::indirect_jump);        // notrack
  EXPECT_EQ(classify({0xff, 0x25, 0, 0, 0, 0}).kind, Terminator::indirect_jump);  // jmp *0(%rip)
  EXPECT_EQ(classify({0xff, 0xd0}).kind, Terminator::indirect_call);
  EXPECT_EQ(classify({0xff, 0x55, 0x08}).kind, Terminator::indirect_call);
  EXPECT_EQ(classify({0xc3}).kind, Terminator::ret);
  EXPECT_EQ(classify({0xf3, 0xc3}).kind, Terminator::ret);
  EXPECT_EQ(classify({0xf2, 0xc3}).kind, Terminator::ret);  // bnd ret
  EXPECT_EQ(classify({0xc2, 8, 0}).kind, Terminator::ret);
}

TEST(SimTerminator, KernelEntriesAndFarTransfers) {
  EXPECT_EQ(classify({0x0f, 0x05}).kind, Terminator::far);  // syscall
  EXPECT_EQ(classify({0x0f, 0x34}).kind, Terminator::far);  // sysenter
  EXPECT_EQ(classify({0xcc}).kind, Terminator::far);        // int3
  EXPECT_EQ(classify({0xcd, 0x80}).kind, Terminator::far);
  EXPECT_EQ(classify({0xf1}).kind, Terminator::far);        // int1
  EXPECT_EQ(classify({0x48, 0xcf}).kind, Terminator::far);  // iretq
  EXPECT_EQ(classify({0xcb}).kind, Terminator::far);        // retf
  EXPECT_EQ(classify({0xff, 0x28}).kind, Terminator::far);  // ljmp *(%rax)
  EXPECT_EQ(classify({0xff, 0x18}).kind, Terminator::far);  // lcall *(%rax)
}

TEST(SimTerminator, OthersRunOnBehindThemselves) {
  EXPECT_EQ(classify({0x90}).kind, Terminator::none);
  EXPECT_EQ(classify({0x90}).target, 0x1001u);
  EXPECT_EQ(classify({0xf3, 0x90}).target, 0x1002u);   // pause repeats nothing
  EXPECT_EQ(classify({0xf4}).kind, Terminator::none);  // hlt and ud2 fault: they do not run
  EXPECT_EQ(classify({0x0f, 0x0b}).kind, Terminator::none);
}

TEST(SimTerminator, ARepeatedStringInstructionMayGoOnAtItself) {
  EXPECT_EQ(classify({0xf3, 0xa4}).target, 0x1000u);              // rep movsb
  EXPECT_EQ(classify({0xf2, 0xae}).target, 0x1000u);              // repne scasb
  EXPECT_EQ(classify({0xf3, 0x48, 0xab}).target, 0x1000u);        // rep stosq
  EXPECT_EQ(classify({0xf3, 0x0f, 0x6f, 0x00}).target, 0x1004u);  // movdqu: the prefix means something else
}

TEST(SimTerminator, BytesThatAreNoInstructionEndNothing) {
  EXPECT_EQ(classify({}).kind, Terminator::none);
  EXPECT_EQ(classify({0xe8, 1}).kind, Terminator::none);
  EXPECT_EQ(classify({0xc3, 0x90}).kind, Terminator::none);  // two instructions
}

}  // namespace
}  // namespace hindcast::sim
