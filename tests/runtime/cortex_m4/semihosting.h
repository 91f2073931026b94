// What an emulated core has of its host: lines to print, a file to read, an exit status.
#ifndef TINYTRAIN_TESTS_SEMIHOSTING_H_
#define TINYTRAIN_TESTS_SEMIHOSTING_H_

#include <cstddef>
#include <cstdint>

#include "tinytrain.h"

namespace {

inline int Semihost(int operation, const void* argument) {
  register int r0 asm("r0") = operation;
  register const void* r1 asm("r1") = argument;
  asm volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
  return r0;
}

inline void Print(const char* text) { Semihost(0x04, text); }

[[noreturn]] inline void Exit(bool good) {
  Semihost(0x18, reinterpret_cast<const void*>(good ? 0x20026 : 0x20023));
  for (;;) {
  }
}

inline void PrintBytes(const char* name, const void* data, std::size_t count) {
  static const char kDigits[] = "0123456789abcdef";
  const auto* bytes = static_cast<const std::uint8_t*>(data);
  char text[3] = {0, 0, 0};
  Print(name);
  Print(" ");
  for (std::size_t i = 0; i < count; ++i) {
    text[0] = kDigits[bytes[i] >> 4];
    text[1] = kDigits[bytes[i] & 15];
    Print(text);
  }
  Print("\n");
}

inline void Require(tinytrain::Status status) {
  if (status == tinytrain::Status::kOk) return;
  Print(tinytrain::StatusText(status));
  Print("\n");
  Exit(false);
}

// A file of the host, read from its beginning to its end.
class File {
 public:
  explicit File(const char* name) {
    std::size_t length = 0;
    while (name[length] != '\0') ++length;
    const std::uint32_t argument[3] = {reinterpret_cast<std::uint32_t>(name), 1 /* rb */, length};
    handle_ = Semihost(0x01, argument);
  }
  // Whether all of `count` bytes were there.
  bool Read(void* data, std::size_t count) {
    const std::uint32_t argument[3] = {static_cast<std::uint32_t>(handle_), reinterpret_cast<std::uint32_t>(data), count};
    return Semihost(0x06, argument) == 0;
  }

 private:
  int handle_;
};

// ---- start ---------------------------------------------------------------------------------------------------------------

void Main();

}  // namespace

extern "C" {
extern std::uint32_t stack_top;

[[noreturn]] void Reset() {
  *reinterpret_cast<volatile std::uint32_t*>(0xE000ED88) |= 0xFu << 20;  // the FPU on
  asm volatile("dsb\nisb");
  Main();
  Exit(true);
}

[[noreturn]] void Fault() {
  Print("fault\n");
  Exit(false);
}

__attribute__((section(".vectors"), used)) const void* const vectors[16] = {
    &stack_top, reinterpret_cast<const void*>(&Reset), reinterpret_cast<const void*>(&Fault),
    reinterpret_cast<const void*>(&Fault)};
}

#endif  // TINYTRAIN_TESTS_SEMIHOSTING_H_
