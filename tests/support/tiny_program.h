// A few functions of machine code for flow tests.
//
//   401000  call 401010       401010  jne 401014     401020  syscall     401030  jmp 401030
//   401005  nop               401012  nop nop        401022  nop         401040  call *%rax
//   401006  jmp 401000        401014  ret            401023  jmp 401020  401042  nop
//                                                                        401043  jmp *%rdx
#pragma once

#include <cstdint>
#include <vector>

namespace hindcast::test {

inline constexpr uint64_t kTinyBase = 0x401000;

inline std::vector<uint8_t> tiny_program() {
  std::vector<uint8_t> c(0x80, 0xcc);
  const auto put = [&c](size_t at, std::initializer_list<int> bytes) {
    for (int b : bytes) c[at++] = static_cast<uint8_t>(b);
  };
  put(0x00, {0xe8, 0x0b, 0, 0, 0, 0x90, 0xeb, 0xf8});
  put(0x10, {0x75, 0x02, 0x90, 0x90, 0xc3});
  put(0x20, {0x0f, 0x05, 0x90, 0xeb, 0xfb});
  put(0x30, {0xeb, 0xfe});
  put(0x40, {0xff, 0xd0, 0x90, 0xff, 0xe2});
  return c;
}

}  // namespace hindcast::test
