// SPDX-License-Identifier: MIT
// The way from generated code to our functions: RBP, which holds the guest's registers, becomes the third argument.
asm(R"(
  .text
  .globl hindcast_channel_block_entry
  .hidden hindcast_channel_block_entry
  .type hindcast_channel_block_entry, @function
hindcast_channel_block_entry:
  mov %rbp, %rdx
  jmp hindcast_channel_block
  .size hindcast_channel_block_entry, . - hindcast_channel_block_entry

  .globl hindcast_truth_block_entry
  .hidden hindcast_truth_block_entry
  .type hindcast_truth_block_entry, @function
hindcast_truth_block_entry:
  mov %rbp, %rdx
  jmp hindcast_truth_block
  .size hindcast_truth_block_entry, . - hindcast_truth_block_entry
)");
