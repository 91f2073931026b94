// A stand-in of Zephyr's flash map: its storage_partition is the file that FLASH names.
#ifndef ZEPHYR_FLASH_MAP_H_
#define ZEPHYR_FLASH_MAP_H_

#include "../../../flash_file.h"

#define FIXED_PARTITION_ID(label) 0
#define FIXED_PARTITION_OFFSET(label) 0
#define CONFIG_FLASH_BASE_ADDRESS reinterpret_cast<std::uintptr_t>(FlashFile())
struct flash_area {
  std::size_t fa_size;
};

inline int flash_area_open(int, const struct flash_area** area) {
  static const struct flash_area storage = {kFlashFileBytes};
  *area = &storage;
  return FlashFile() == nullptr ? -1 : 0;
}
inline int flash_area_erase(const struct flash_area*, long offset, std::size_t size) {
  return EraseFlashFile(static_cast<std::size_t>(offset), size) ? 0 : -1;
}
inline int flash_area_write(const struct flash_area*, long offset, const void* data, std::size_t size) {
  return WriteFlashFile(static_cast<std::size_t>(offset), data, size) ? 0 : -1;
}

#endif  // ZEPHYR_FLASH_MAP_H_
