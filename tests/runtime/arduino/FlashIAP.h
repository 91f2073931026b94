// A stand-in of the flash driver of Arduino's mbed core: flash is the program's own memory, at 32-bit addresses (-no-pie).
#ifndef FLASHIAP_H_
#define FLASHIAP_H_

#include <sys/mman.h>

#include <cstdint>
#include <cstring>

namespace mbed {
class FlashIAP {
 public:
  int init() { return 0; }
  int erase(std::uint32_t address, std::uint32_t size) {
    std::memset(Writable(address, size), 0xff, size);
    return 0;
  }
  int program(const void* buffer, std::uint32_t address, std::uint32_t size) {
    std::uint8_t* flash = Writable(address, size);
    for (std::uint32_t i = 0; i < size; ++i) flash[i] &= static_cast<const std::uint8_t*>(buffer)[i];  // only clears bits
    return 0;
  }

 private:
  static std::uint8_t* Writable(std::uint32_t address, std::uint32_t size) {
    const std::uintptr_t begin = address / 4096u * 4096u;
    if (mprotect(reinterpret_cast<void*>(begin), address + size - begin, PROT_READ | PROT_WRITE) != 0) std::abort();
    return reinterpret_cast<std::uint8_t*>(static_cast<std::uintptr_t>(address));
  }
};
}  // namespace mbed

#endif  // FLASHIAP_H_
