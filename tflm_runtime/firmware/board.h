// The emulated board: QEMU's mps2-an386 (Cortex-M4F), with flash and RAM limited by link.ld.
//
// The memory protection unit is set up before main: flash may be read and run, RAM read and written; any other access traps. A
// fault prints a line with its address and ends the run with exit code 1. So does a stack overflow.
#ifndef TINYTRAIN_FIRMWARE_BOARD_H_
#define TINYTRAIN_FIRMWARE_BOARD_H_

#include <cstddef>
#include <cstdint>

namespace board {

// Standard error of the emulator.
void Print(const char* text);
[[noreturn]] void Exit(bool good);

// What a fault prints after its address, from now on: why it may have come.
void Doing(const char* text);

// Standard input and output of the emulator. All bytes are read or written; false: the other end was closed.
bool Read(void* data, std::size_t num_bytes);
bool Write(const void* data, std::size_t num_bytes);

// The serial port, UART0 of the emulated machine. Access traps until it is opened.
void OpenSerial();
std::uint8_t PeekSerial();                           // waits for a byte and does not take it
int NextSerial();                                    // the same without waiting; -1: none has come
bool ReadSerial(void* data, std::size_t num_bytes);  // false: a byte did not come in 2 s
void WriteSerial(const void* data, std::size_t num_bytes);

// Flash as its controller changes it: an erase sets bytes to 0xFF, a write only clears bits. Any other write to flash traps.
void EraseFlash(const std::uint8_t* begin, std::size_t num_bytes);
void WriteFlash(const std::uint8_t* begin, const std::uint8_t* data, std::size_t num_bytes);

// Instructions since reset, in steps of 40: SysTick runs at 25 MHz, and under `-icount shift=0` an instruction takes 1 ns.
std::uint64_t Instructions();
std::uint32_t Milliseconds();  // at one cycle an instruction and 64 MHz

// Switches the count of profiler.c on and off, by hint instructions that have no other effect.
inline void Profile(bool on) {
  if (on) {
    asm volatile("dbg #1");
  } else {
    asm volatile("dbg #0");
  }
}

// The most stack in use so far, in bytes, and the bytes requested from the heap, which grants none.
std::size_t StackHighWater();
std::size_t HeapRequested();

// Sizes by the linker, in bytes. Flash: models.o, tables.o, and all. RAM: without the stack.
std::size_t WeightsInFlash();
std::size_t TablesInFlash();
std::size_t CoreInFlash();
std::size_t FlashUsed();
std::size_t StaticRam();

}  // namespace board

#endif  // TINYTRAIN_FIRMWARE_BOARD_H_
