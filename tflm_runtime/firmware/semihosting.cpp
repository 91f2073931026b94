// What the emulator does for the board: standard input, output and error, and the end of a run.
#include <cstdint>
#include <cstring>

#include "board.h"

namespace board {
namespace {

int Semihost(int operation, const void* argument) {
  register int r0 asm("r0") = operation;
  register const void* r1 asm("r1") = argument;
  asm volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
  return r0;
}

constexpr int kOpen = 0x01, kPrint = 0x04, kWrite = 0x05, kRead = 0x06, kExit = 0x18;
constexpr std::uint32_t kReadBinary = 1, kWriteBinary = 5;

std::uint32_t Open(const char* path, std::uint32_t mode) {
  const std::uint32_t block[] = {reinterpret_cast<std::uint32_t>(path), mode, static_cast<std::uint32_t>(std::strlen(path))};
  return static_cast<std::uint32_t>(Semihost(kOpen, block));
}

// A pipe takes and gives as much as it has room for. Repeats until all is done, or a call makes no progress.
bool Transfer(int operation, std::uint32_t file, std::uint32_t address, std::size_t num_bytes) {
  while (num_bytes > 0) {
    const std::uint32_t block[] = {file, address, num_bytes};
    const auto left = static_cast<std::uint32_t>(Semihost(operation, block));
    if (left >= num_bytes) return false;
    address += num_bytes - left;
    num_bytes = left;
  }
  return true;
}

}  // namespace

void Print(const char* text) { Semihost(kPrint, text); }

void Exit(bool good) {
  Semihost(kExit, reinterpret_cast<const void*>(good ? 0x20026 : 0x20023));
  for (;;) {
  }
}

bool Read(void* data, std::size_t num_bytes) {
  static const std::uint32_t file = Open("/dev/stdin", kReadBinary);
  return Transfer(kRead, file, reinterpret_cast<std::uint32_t>(data), num_bytes);
}

bool Write(const void* data, std::size_t num_bytes) {
  static const std::uint32_t file = Open("/dev/stdout", kWriteBinary);
  return Transfer(kWrite, file, reinterpret_cast<std::uint32_t>(data), num_bytes);
}

}  // namespace board

// What TensorFlow Lite Micro says of its errors, of a library that leaves this to the board's core as Arduino's does. Newer
// ones hand over a second argument, the values of the text's placeholders.
extern "C" __attribute__((weak)) void DebugLog(const char* text) { board::Print(text); }
