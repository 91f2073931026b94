// One check of the emulated board, chosen by -DCHECK=...; prints a line where it is to succeed.
#include <cstdint>
#include <cstdlib>

#include "board.h"

namespace {

const std::uint32_t in_flash[4] = {1, 2, 3, 4};

void Store(std::uint32_t address) { *reinterpret_cast<volatile std::uint32_t*>(address) = 5; }
std::uint32_t Load(std::uint32_t address) { return *reinterpret_cast<volatile std::uint32_t*>(address); }

void WriteFlash() { Store(reinterpret_cast<std::uint32_t>(in_flash)); }
void WriteBehindRam() { Store(0x20000000 + RAM_BYTES); }
void ReadBehindFlash() { Load(FLASH_BYTES); }
void WritePeripheral() { Store(0x40004000); }
void RunRam() {
  static const std::uint16_t code[] = {0x4770, 0x4770};  // bx lr
  static std::uint16_t copy[2];
  copy[0] = code[0];
  reinterpret_cast<void (*)()>(reinterpret_cast<std::uint32_t>(copy) | 1)();
}

__attribute__((noinline)) std::uint32_t Recurse(std::uint32_t depth) {
  volatile std::uint32_t here[16] = {depth};
  return depth == 0 ? here[0] : Recurse(depth - 1) + here[0];
}
void OverflowStack() { Recurse(1000); }

struct Numbers {
  std::uint32_t values[2];
};

// As far as memory goes, and what main.cpp reports.
void StayWithin() {
  Store(0x20000000 + RAM_BYTES - 4);
  Load(FLASH_BYTES - 4);
  const std::size_t before = board::StackHighWater();
  Recurse(20);
  const Numbers numbers = {{static_cast<std::uint32_t>(before), static_cast<std::uint32_t>(board::StackHighWater())}};
  board::Write(&numbers, sizeof(numbers));
}

// A number with a value to begin with, and half of the RAM without.
void FindZeros() {
  static volatile std::uint32_t seven = 7, zeros[RAM_BYTES / 8];
  const Numbers numbers = {{seven, zeros[0] + zeros[RAM_BYTES / 8 - 1]}};
  board::Write(&numbers, sizeof(numbers));
}

void AskHeap() {
  void* volatile piece = std::malloc(100);
  const Numbers numbers = {{piece == nullptr, static_cast<std::uint32_t>(board::HeapRequested())}};
  board::Write(&numbers, sizeof(numbers));
}

// Three instructions a round: the counter wraps after 42 million.
void CountInstructions() {
  const std::uint64_t begin = board::Instructions();
  std::uint32_t rounds = 20000000;
  board::Profile(true);
  asm volatile("1: nop\nsubs %0, #1\nbne 1b\n" : "+r"(rounds) : : "cc");
  board::Profile(false);
  const std::uint64_t spent = board::Instructions() - begin;
  board::Write(&spent, sizeof(spent));
}

}  // namespace

int main() {
  CHECK();
  return 0;
}
