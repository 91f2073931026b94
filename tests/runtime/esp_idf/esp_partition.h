// A stand-in of ESP-IDF's partitions: one called "tinytrain", in the file that FLASH names.
#ifndef ESP_PARTITION_H_
#define ESP_PARTITION_H_

#include "../flash_file.h"

typedef int esp_err_t;
constexpr esp_err_t ESP_OK = 0;
enum esp_partition_type_t { ESP_PARTITION_TYPE_APP = 0, ESP_PARTITION_TYPE_ANY = 0xff };
enum esp_partition_subtype_t { ESP_PARTITION_SUBTYPE_ANY = 0xff };
enum esp_partition_mmap_memory_t { ESP_PARTITION_MMAP_DATA };
typedef std::uint32_t esp_partition_mmap_handle_t;
struct esp_partition_t {
  std::uint32_t size, erase_size;
  bool encrypted;
};

inline const esp_partition_t* esp_partition_find_first(esp_partition_type_t type, esp_partition_subtype_t, const char* label) {
  static const esp_partition_t partition = {kFlashFileBytes, kFlashFilePageBytes, false};
  return type == 0x40 && std::strcmp(label, "tinytrain") == 0 && FlashFile() != nullptr ? &partition : nullptr;
}
inline esp_err_t esp_partition_mmap(const esp_partition_t*, std::size_t offset, std::size_t, esp_partition_mmap_memory_t,
                                    const void** data, esp_partition_mmap_handle_t* handle) {
  *data = FlashFile() + offset;
  *handle = 1;
  return ESP_OK;
}
inline esp_err_t esp_partition_erase_range(const esp_partition_t*, std::size_t offset, std::size_t size) {
  return EraseFlashFile(offset, size) ? ESP_OK : -1;
}
inline esp_err_t esp_partition_write(const esp_partition_t*, std::size_t offset, const void* data, std::size_t size) {
  return WriteFlashFile(offset, data, size) ? ESP_OK : -1;
}

#endif  // ESP_PARTITION_H_
