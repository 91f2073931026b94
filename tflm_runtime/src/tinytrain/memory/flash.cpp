#include "tinytrain_flash.h"

#include <cstring>

namespace tinytrain {

Status CheckFlash(const Flash& flash, std::size_t bytes) {
  if (flash.data == nullptr || flash.erase == nullptr || flash.write == nullptr) return Status::kFlashUnfit;
  if (flash.page_bytes == 0 || flash.page_bytes % kFlashBlockBytes != 0) return Status::kFlashUnfit;
  return flash.bytes % flash.page_bytes == 0 && flash.bytes >= bytes ? Status::kOk : Status::kFlashUnfit;
}

Status ErasePages(const Flash& flash, std::size_t begin, std::size_t end) {
  for (std::size_t page = RoundUpTo(flash.page_bytes, begin); page < end; page += flash.page_bytes) {
    if (!flash.erase(flash.context, page)) return Status::kFlashFailed;
  }
  return Status::kOk;
}

Status WriteBlock(const Flash& flash, std::size_t offset, const std::uint8_t* block) {
  for (std::size_t i = 0; i < kFlashBlockBytes; ++i) {
    if (flash.data[offset + i] != 0xff) return Status::kFlashFailed;
  }
  if (!flash.write(flash.context, offset, block)) return Status::kFlashFailed;
  return std::memcmp(flash.data + offset, block, kFlashBlockBytes) == 0 ? Status::kOk : Status::kFlashFailed;
}

}  // namespace tinytrain
