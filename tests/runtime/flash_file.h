// NOR flash in the file that FLASH names, for stand-ins of flash drivers: it outlives the program. nullptr without such a file.
#ifndef FLASH_FILE_H_
#define FLASH_FILE_H_

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

constexpr std::size_t kFlashFileBytes = 1 << 16, kFlashFilePageBytes = 4096;

inline std::uint8_t* FlashFile() {
  static std::uint8_t* const flash = [] {
    const char* name = std::getenv("FLASH");
    const int file = name == nullptr ? -1 : ::open(name, O_RDWR);
    void* data = file < 0 ? MAP_FAILED : ::mmap(nullptr, kFlashFileBytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    return data == MAP_FAILED ? nullptr : static_cast<std::uint8_t*>(data);
  }();
  return flash;
}

inline bool EraseFlashFile(std::size_t offset, std::size_t size) {
  if (offset % kFlashFilePageBytes != 0 || size % kFlashFilePageBytes != 0 || offset + size > kFlashFileBytes) return false;
  std::memset(FlashFile() + offset, 0xff, size);
  return true;
}

inline bool WriteFlashFile(std::size_t offset, const void* data, std::size_t size) {
  if (offset + size > kFlashFileBytes) return false;
  for (std::size_t i = 0; i < size; ++i) FlashFile()[offset + i] &= static_cast<const std::uint8_t*>(data)[i];
  return true;
}

#endif  // FLASH_FILE_H_
