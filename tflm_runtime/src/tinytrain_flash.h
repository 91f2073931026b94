// Flash memory that the caller hands over: read where it is mapped, erased page by page, written block by block.
//
// NOR flash as microcontrollers have it: an erase sets a whole page to 0xFF, a write can only clear bits. Two users of it:
// stored samples (Trainer::Init) and deltas in two slots (Trainer::SaveDelta), each with a Flash of its own.
#ifndef TINYTRAIN_FLASH_H_
#define TINYTRAIN_FLASH_H_

#include <cstddef>
#include <cstdint>

#include "tinytrain_status.h"

namespace tinytrain {

// What one write takes: a multiple of the smallest write of common parts (nRF52840: 4, STM32H7: 32, RP2040: 256).
constexpr std::size_t kFlashBlockBytes = 256;

struct Flash {
  void* context;
  const std::uint8_t* data;  // where it is mapped; the start of a page
  std::size_t bytes;         // whole pages
  std::size_t page_bytes;    // what an erase clears: whole blocks; 4096 on the nRF52840
  // Sets the page that begins at data + offset to 0xFF.
  bool (*erase)(void* context, std::size_t offset);
  // Writes kFlashBlockBytes to data + offset, a multiple of kFlashBlockBytes. `block`, aligned to 16, is in RAM. They have been
  // erased since they were last written.
  bool (*write)(void* context, std::size_t offset, const std::uint8_t* block);
};

// `bytes` rounded up to whole units.
constexpr std::size_t RoundUpTo(std::size_t unit, std::size_t bytes) { return (bytes + unit - 1) / unit * unit; }

// kOk, or kFlashUnfit where a pointer is missing, pages or blocks are not whole, or there are fewer than `bytes`.
Status CheckFlash(const Flash& flash, std::size_t bytes);

// Erases the pages that begin in [begin, end); kOk or kFlashFailed.
Status ErasePages(const Flash& flash, std::size_t begin, std::size_t end);

// Writes one block, and reads it back; kFlashFailed also where it was not erased.
Status WriteBlock(const Flash& flash, std::size_t offset, const std::uint8_t* block);

}  // namespace tinytrain

#endif  // TINYTRAIN_FLASH_H_
