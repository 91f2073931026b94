// From reset to main: floating point unit, memory protection, painted stack, initialised data; the fault handler; the functions
// of board.h.
#include <cstdint>
#include <cstring>

#include "board.h"

int main();

extern "C" {
extern std::uint32_t stack_begin[], stack_end[], handler_stack_end[], ram_begin[];
extern std::uint8_t data_begin[], data_end[], data_in_flash[], bss_begin[], bss_end[];
extern std::uint8_t weights_begin[], weights_end[], tables_begin[], tables_end[], core_begin[], core_end[], flash_used[];
extern void (*init_begin[])();
extern void (*init_end[])();
void Reset();
}

namespace {

constexpr std::uint32_t kPaint = 0xC5C5C5C5;
constexpr std::uint32_t kCounterPeriod = 1u << 20;  // ticks, fewer than SysTick's 2^24: tests see it wrap
constexpr std::uint32_t kInstructionsPerTick = 40;

volatile std::uint32_t& Register(std::uint32_t address) { return *reinterpret_cast<volatile std::uint32_t*>(address); }
constexpr std::uint32_t kSysTickControl = 0xE000E010, kSysTickReload = 0xE000E014, kSysTickValue = 0xE000E018;
constexpr std::uint32_t kInterruptState = 0xE000ED04, kFaultStatus = 0xE000ED28, kMemoryFaultAddress = 0xE000ED34;
constexpr std::uint32_t kCoprocessors = 0xE000ED88;
constexpr std::uint32_t kMpuControl = 0xE000ED94, kMpuBase = 0xE000ED9C, kMpuAttributes = 0xE000EDA0;
constexpr std::uint32_t kInterruptEnable = 0xE000E100;
// UART0, a CMSDK UART. State: bit 0 no room to send, bit 1 a byte has come.
constexpr std::uint32_t kUartData = 0x40004000, kUartState = 0x40004004, kUartControl = 0x40004008;
constexpr std::uint32_t kUartInterrupt = 0x4000400C, kUartBaudDivider = 0x40004010;

volatile std::uint32_t counter_wraps;
std::size_t heap_requested;
const char* doing = "";
int serial_peeked = -1;  // a byte that has come and was not read yet

// ---- memory protection -------------------------------------------------------------------------------------------------

constexpr std::uint32_t kReadOnly = 6u << 24, kReadWrite = 3u << 24, kNoExecute = 1u << 28, kNothing = kNoExecute;

// A region has a power of two bytes and begins at a multiple of its size. If two overlap, the later one counts.
void Protect(std::uint32_t region, std::uint32_t begin, std::uint32_t num_bytes, std::uint32_t attributes) {
  std::uint32_t log2 = 5;
  while ((1u << log2) < num_bytes) ++log2;
  Register(kMpuBase) = begin | 1u << 4 | region;
  Register(kMpuAttributes) = attributes | (log2 - 1) << 1 | 1u;
}

constexpr std::uint32_t PowerOfTwo(std::uint32_t at_least) {
  std::uint32_t power = 32;
  while (power < at_least) power *= 2;
  return power;
}

void ProtectFlash(std::uint32_t attributes) {
  Protect(0, 0, PowerOfTwo(FLASH_BYTES), attributes);
  asm volatile("dsb\nisb" ::: "memory");
}

// Readable: [0, FLASH_BYTES); writable: the RAM_BYTES from the beginning of RAM. A flash size that is no power of two is the
// next power of two without its last piece, whose size must be a power of two.
void ProtectMemory() {
  const std::uint32_t whole = PowerOfTwo(FLASH_BYTES);
  ProtectFlash(kReadOnly);
  if (whole > FLASH_BYTES) Protect(1, FLASH_BYTES, whole - FLASH_BYTES, kNothing);
  Protect(2, reinterpret_cast<std::uint32_t>(ram_begin), RAM_BYTES, kReadWrite | kNoExecute);
  Register(kMpuControl) = 1;  // no default map, not even for privileged code
  asm volatile("dsb\nisb" ::: "memory");
}
static_assert((RAM_BYTES & (RAM_BYTES - 1)) == 0, "the memory protection unit wants RAM to be a power of two");

// ---- reset ---------------------------------------------------------------------------------------------------------------

void StartCounter() {
  Register(kSysTickReload) = kCounterPeriod - 1;
  Register(kSysTickValue) = 0;
  Register(kSysTickControl) = 7;  // from the core's clock, with an interrupt at each wrap
}

void Paint() {
  std::uint32_t here;
  asm volatile("mov %0, sp" : "=r"(here));
  for (std::uint32_t* word = stack_begin; reinterpret_cast<std::uint32_t>(word) + 64 < here; ++word) *word = kPaint;
}

}  // namespace

extern "C" {

[[noreturn]] __attribute__((used, noinline)) void Start() {
  Register(kCoprocessors) |= 0xFu << 20;  // the FPU on
  asm volatile("dsb\nisb" ::: "memory");
  Paint();
  std::memcpy(data_begin, data_in_flash, static_cast<std::size_t>(data_end - data_begin));
  std::memset(bss_begin, 0, static_cast<std::size_t>(bss_end - bss_begin));
  ProtectMemory();
  StartCounter();
  for (void (**constructor)() = init_begin; constructor != init_end; ++constructor) (*constructor)();
  board::Exit(main() == 0);
}

// Threads have a stack of their own, so that its overflow can be reported.
__attribute__((naked, used)) void Reset() {
  asm volatile(
      "ldr r0, =stack_end\n"
      "msr psp, r0\n"
      "movs r0, #2\n"
      "msr control, r0\n"
      "isb\n"
      "b Start\n");
}

void CountWrap() { counter_wraps = counter_wraps + 1; }

void ByteCame() { Register(kUartInterrupt) = 2; }  // it only ends a sleep

[[noreturn]] void Fault() {
  const std::uint32_t status = Register(kFaultStatus);
  char text[] = "fault: status 0x00000000, address 0x00000000\n";
  const auto hex = [&text](int last, std::uint32_t value) {
    for (int i = 0; i < 8; ++i, value >>= 4) text[last - i] = "0123456789abcdef"[value & 15];
  };
  hex(23, status);
  hex(43, Register(kMemoryFaultAddress));
  board::Print(status & 0xFF ? "memory protection " : "");
  board::Print(text);
  board::Print(doing);
  board::Exit(false);
}

// A static object's destructor, ours or of a library, is registered here. A board never ends, and none is run.
void* __dso_handle = nullptr;
int __aeabi_atexit(void*, void (*)(void*), void*) { return 0; }

// The heap grants nothing.
void* _sbrk(std::ptrdiff_t num_bytes) {
  heap_requested += static_cast<std::size_t>(num_bytes);
  return reinterpret_cast<void*>(-1);
}

__attribute__((section(".vectors"), used))
const void* const vectors[17] = {handler_stack_end,                      // initial stack pointer
                                 reinterpret_cast<const void*>(&Reset),  //
                                 reinterpret_cast<const void*>(&Fault),  // NMI
                                 reinterpret_cast<const void*>(&Fault),  // hard fault, to which the others escalate
                                 reinterpret_cast<const void*>(&Fault),
                                 reinterpret_cast<const void*>(&Fault),
                                 reinterpret_cast<const void*>(&Fault),
                                 nullptr,
                                 nullptr,
                                 nullptr,
                                 nullptr,  //
                                 reinterpret_cast<const void*>(&Fault),
                                 reinterpret_cast<const void*>(&Fault),
                                 nullptr,
                                 reinterpret_cast<const void*>(&Fault),  //
                                 reinterpret_cast<const void*>(&CountWrap),
                                 reinterpret_cast<const void*>(&ByteCame)};
}

namespace board {

constexpr std::uint64_t kSerialPatience = 2000000000;  // ns of the emulated clock, which goes on while the core sleeps

void OpenSerial() {
  Protect(3, kUartData, 4096, kReadWrite | kNoExecute);
  asm volatile("dsb\nisb" ::: "memory");
  Register(kUartBaudDivider) = 16;
  Register(kUartControl) = 1 | 2 | 8;  // send, receive, an interrupt at each byte that comes
  Register(kInterruptEnable) = 1;      // number 0
}

int NextSerial() {
  if (serial_peeked < 0 && (Register(kUartState) & 2) != 0) serial_peeked = static_cast<int>(Register(kUartData) & 0xFF);
  return serial_peeked;
}

// Whether a byte has come; if not, it first sleeps until an interrupt.
bool AwaitSerial() {
  if (NextSerial() >= 0) return true;
  asm volatile("wfi" ::: "memory");
  return false;
}

std::uint8_t PeekSerial() {
  while (!AwaitSerial()) {
  }
  return static_cast<std::uint8_t>(serial_peeked);
}

bool ReadSerial(void* data, std::size_t num_bytes) {
  auto* bytes = static_cast<std::uint8_t*>(data);
  for (std::size_t i = 0; i < num_bytes; ++i) {
    const std::uint64_t begin = Instructions();
    while (!AwaitSerial()) {
      if (Instructions() - begin > kSerialPatience) return false;
    }
    bytes[i] = PeekSerial();
    serial_peeked = -1;
  }
  return true;
}

void WriteSerial(const void* data, std::size_t num_bytes) {
  const auto* bytes = static_cast<const std::uint8_t*>(data);
  for (std::size_t i = 0; i < num_bytes; ++i) {
    while ((Register(kUartState) & 1) != 0) {
    }
    Register(kUartData) = bytes[i];
  }
}

void EraseFlash(const std::uint8_t* begin, std::size_t num_bytes) {
  ProtectFlash(kReadWrite);
  std::memset(const_cast<std::uint8_t*>(begin), 0xFF, num_bytes);
  ProtectFlash(kReadOnly);
}

void WriteFlash(const std::uint8_t* begin, const std::uint8_t* data, std::size_t num_bytes) {
  ProtectFlash(kReadWrite);
  auto* flash = const_cast<std::uint8_t*>(begin);
  for (std::size_t i = 0; i < num_bytes; ++i) flash[i] = static_cast<std::uint8_t>(flash[i] & data[i]);
  ProtectFlash(kReadOnly);
}

std::uint64_t Instructions() {
  for (;;) {
    const std::uint32_t wraps = counter_wraps;
    const std::uint32_t ticks = (kCounterPeriod - Register(kSysTickValue)) % kCounterPeriod;  // the interrupt comes at 0
    const bool wrap_pending = (Register(kInterruptState) & 1u << 26) != 0;
    if (wraps == counter_wraps && !wrap_pending) {
      return (static_cast<std::uint64_t>(wraps) * kCounterPeriod + ticks) * kInstructionsPerTick;
    }
  }
}

// For nine hours: 64,000 = 512 * 125, and the code that divides 64 bits takes 700 B.
std::uint32_t Milliseconds() { return static_cast<std::uint32_t>(Instructions() >> 9) / 125; }

std::size_t StackHighWater() {
  const std::uint32_t* word = stack_begin;
  while (word != stack_end && *word == kPaint) ++word;
  return static_cast<std::size_t>(stack_end - word) * sizeof(*word);
}

void Doing(const char* text) { doing = text; }

std::size_t HeapRequested() { return heap_requested; }
std::size_t WeightsInFlash() { return static_cast<std::size_t>(weights_end - weights_begin); }
std::size_t TablesInFlash() { return static_cast<std::size_t>(tables_end - tables_begin); }
std::size_t CoreInFlash() { return static_cast<std::size_t>(core_end - core_begin); }
std::size_t FlashUsed() { return reinterpret_cast<std::size_t>(flash_used); }
std::size_t StaticRam() { return static_cast<std::size_t>((data_end - data_begin) + (bss_end - bss_begin)); }

}  // namespace board
