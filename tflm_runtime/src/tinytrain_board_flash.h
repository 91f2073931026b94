// The flash of the board that is compiled for, as a tinytrain::Flash. Three drivers:
//   Arduino's mbed core (Nano 33 BLE)   pages of the program itself, by FlashIAP
//   ESP32, with ESP-IDF 5 or Arduino    the partition "tinytrain" of type 0x40, as partitions.csv has it
//   Zephyr                              the fixed partition with the label storage_partition
// The processor stands still while a page is erased (nRF52840: 85 ms). For another board fill in a Flash of your own.
#ifndef TINYTRAIN_BOARD_FLASH_H_
#define TINYTRAIN_BOARD_FLASH_H_

#include <cstddef>
#include <cstdint>

#include "tinytrain_flash.h"

#if defined(ESP_PLATFORM)
#include <esp_partition.h>
#elif defined(__ZEPHYR__)
#include <zephyr/storage/flash_map.h>
#elif __has_include(<FlashIAP.h>)
#include <FlashIAP.h>
#else
#error \
    "TinyTrain has no flash driver for this board: fill in a tinytrain::Flash, or export for a board without flash_page_bytes."
#endif

namespace tinytrain {

// The bytes [offset, offset + bytes) of the pages that the program may write. It must outlive the Flash.
class BoardFlash {
 public:
  // `pages` lie in the program: g_flash of models.h. A board with partitions takes its partition in their place. kFlashFailed:
  // the driver does not answer. kFlashUnfit: the partition is missing, encrypted, too small, or has larger pages.
  Status Begin(const unsigned char* pages, std::size_t offset, std::size_t bytes, std::size_t page_bytes);

  const Flash* flash() const { return &flash_; }

 private:
  static bool Erase(void* context, std::size_t offset);
  static bool Write(void* context, std::size_t offset, const std::uint8_t* block);

  Flash flash_{};
#if defined(ESP_PLATFORM)
  const esp_partition_t* driver_ = nullptr;
  std::size_t first_ = 0;  // offset in the partition
#elif defined(__ZEPHYR__)
  const struct flash_area* driver_ = nullptr;
  std::size_t first_ = 0;
#else
  mbed::FlashIAP driver_;
  std::uint32_t first_ = 0;  // address
#endif
};

inline Status BoardFlash::Begin(const unsigned char* pages, std::size_t offset, std::size_t bytes, std::size_t page_bytes) {
  flash_ = {this, nullptr, bytes, page_bytes, &Erase, &Write};
  const void* first = pages + offset;
#if defined(ESP_PLATFORM)
  constexpr auto kType = static_cast<esp_partition_type_t>(0x40);
  driver_ = esp_partition_find_first(kType, ESP_PARTITION_SUBTYPE_ANY, "tinytrain");
  if (driver_ == nullptr || driver_->encrypted) return Status::kFlashUnfit;
  if (driver_->size < offset + bytes || page_bytes % driver_->erase_size != 0) return Status::kFlashUnfit;
  esp_partition_mmap_handle_t handle;  // mapped for good
  if (esp_partition_mmap(driver_, offset, bytes, ESP_PARTITION_MMAP_DATA, &first, &handle) != ESP_OK)
    return Status::kFlashFailed;
  first_ = offset;
#elif defined(__ZEPHYR__)
  if (flash_area_open(FIXED_PARTITION_ID(storage_partition), &driver_) != 0) return Status::kFlashFailed;
  if (driver_->fa_size < offset + bytes) return Status::kFlashUnfit;
  const std::uintptr_t partition = CONFIG_FLASH_BASE_ADDRESS + FIXED_PARTITION_OFFSET(storage_partition);
  first = reinterpret_cast<const void*>(partition + offset);
  first_ = offset;
#else
  if (driver_.init() != 0) return Status::kFlashFailed;
  first_ = static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(first));
#endif
  flash_.data = static_cast<const std::uint8_t*>(first);
  return Status::kOk;
}

inline bool BoardFlash::Erase(void* context, std::size_t offset) {
  auto* self = static_cast<BoardFlash*>(context);
  const std::size_t bytes = self->flash_.page_bytes;
#if defined(ESP_PLATFORM)
  return esp_partition_erase_range(self->driver_, self->first_ + offset, bytes) == ESP_OK;
#elif defined(__ZEPHYR__)
  return flash_area_erase(self->driver_, self->first_ + offset, bytes) == 0;
#else
  return self->driver_.erase(self->first_ + offset, bytes) == 0;
#endif
}

inline bool BoardFlash::Write(void* context, std::size_t offset, const std::uint8_t* block) {
  auto* self = static_cast<BoardFlash*>(context);
#if defined(ESP_PLATFORM)
  return esp_partition_write(self->driver_, self->first_ + offset, block, kFlashBlockBytes) == ESP_OK;
#elif defined(__ZEPHYR__)
  return flash_area_write(self->driver_, self->first_ + offset, block, kFlashBlockBytes) == 0;
#else
  return self->driver_.program(block, self->first_ + offset, kFlashBlockBytes) == 0;
#endif
}

}  // namespace tinytrain

#endif  // TINYTRAIN_BOARD_FLASH_H_
