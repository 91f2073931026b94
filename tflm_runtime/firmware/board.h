// The emulated board: what a firmware finds there. QEMU's mps2-an386 (Cortex-M4F), with flash and RAM limited by link.ld.
//
// Before main is called the memory protection unit is set up: flash may be read and run, RAM read and written, all else
// traps. A fault prints a line with its address and ends the run with exit code 1; so does a stack that overflows.
#ifndef TINYTRAIN_FIRMWARE_BOARD_H_
#define TINYTRAIN_FIRMWARE_BOARD_H_

#include <cstddef>
#include <cstdint>

namespace board {

// Standard error of the emulator.
void Print(const char* text);
[[noreturn]] void Exit(bool good);

// Standard input and output of the emulator, whole: false where the other end was closed.
bool Read(void* data, std::size_t num_bytes);
bool Write(const void* data, std::size_t num_bytes);

// The serial port, UART0 of the emulated machine; outside what may be touched until it is opened.
void OpenSerial();
std::uint8_t PeekSerial();                           // waits for a byte and leaves it there
bool ReadSerial(void* data, std::size_t num_bytes);  // false where one does not come in 2 s
void WriteSerial(const void* data, std::size_t num_bytes);

// Flash in place, as its controller does it: an erase sets bytes to 0xFF, a write only clears bits. Everywhere else, and at any
// other time, a write to flash is trapped.
void EraseFlash(const std::uint8_t* begin, std::size_t num_bytes);
void WriteFlash(const std::uint8_t* begin, const std::uint8_t* data, std::size_t num_bytes);

// Instructions since reset, in steps of 40: SysTick runs at 25 MHz, and under `-icount shift=0` an instruction takes 1 ns.
std::uint64_t Instructions();
std::uint32_t Milliseconds();  // if each took a cycle, at 64 MHz

// Whether profiler.c is to count what follows: hints, which do nothing else.
inline void Profile(bool on) {
  if (on) {
    asm volatile("dbg #1");
  } else {
    asm volatile("dbg #0");
  }
}

// The most stack that was in use so far, in bytes; bytes that were asked of the heap, which grants none.
std::size_t StackHighWater();
std::size_t HeapRequested();

// What the linker placed, in bytes. Flash: models.o, tables.o, and everything. RAM: without the stack.
std::size_t WeightsInFlash();
std::size_t TablesInFlash();
std::size_t FlashUsed();
std::size_t StaticRam();

}  // namespace board

#endif  // TINYTRAIN_FIRMWARE_BOARD_H_
