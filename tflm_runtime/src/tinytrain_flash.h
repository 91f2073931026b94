// Flash memory of the caller: read through its memory map, erased page by page, written block by block.
//
// It is the NOR flash of microcontrollers: an erase sets a page to 0xFF, a write can only clear bits. Stored samples
// (Trainer::Init) and deltas in two slots (Trainer::SaveDelta) use it, each with a Flash of its own.
#ifndef TINYTRAIN_FLASH_H_
#define TINYTRAIN_FLASH_H_

#include <cstddef>
#include <cstdint>

#include "tinytrain_status.h"

namespace tinytrain {

// Size of one write: a multiple of the smallest write of common parts (nRF52840: 4, STM32H7: 32, RP2040: 256).
constexpr std::size_t kFlashBlockBytes = 256;

struct Flash {
  void* context;
  const std::uint8_t* data;  // address in the memory map; the start of a page
  std::size_t bytes;         // a multiple of page_bytes
  std::size_t page_bytes;    // size of one erase, a multiple of kFlashBlockBytes; 4096 on the nRF52840
  // Sets the page that begins at data + offset to 0xFF.
  bool (*erase)(void* context, std::size_t offset);
  // Writes kFlashBlockBytes to data + offset, a multiple of kFlashBlockBytes. `block` is in RAM and aligned to 16. The flash
  // there was erased after its last write.
  bool (*write)(void* context, std::size_t offset, const std::uint8_t* block);
};

// The smallest multiple of `unit` that is at least `bytes`.
constexpr std::size_t RoundUpTo(std::size_t unit, std::size_t bytes) { return (bytes + unit - 1) / unit * unit; }

// kOk or kFlashUnfit: a pointer is missing, a size is not such a multiple, or there are fewer than `bytes`.
Status CheckFlash(const Flash& flash, std::size_t bytes);

// Erases the pages that begin in [begin, end); kOk or kFlashFailed.
Status ErasePages(const Flash& flash, std::size_t begin, std::size_t end);

// Writes one block and reads it back. kFlashFailed: it differs, perhaps because it was not erased.
Status WriteBlock(const Flash& flash, std::size_t offset, const std::uint8_t* block);

}  // namespace tinytrain

#endif  // TINYTRAIN_FLASH_H_
