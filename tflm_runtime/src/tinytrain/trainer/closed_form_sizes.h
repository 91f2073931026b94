// Sizes of what a closed-form head keeps.
#ifndef TINYTRAIN_CLOSED_FORM_SIZES_H_
#define TINYTRAIN_CLOSED_FORM_SIZES_H_

#include <cstddef>
#include <cstdint>

#include "tinytrain/memory/memory.h"
#include "tinytrain_flash.h"

namespace tinytrain {

constexpr std::size_t RoundUp(std::size_t bytes) { return RoundUpTo(kArenaAlignment, bytes); }

constexpr std::size_t ScaleBytes(std::int32_t num_classes) {
  return RoundUp(static_cast<std::size_t>(num_classes + 1) * sizeof(std::int32_t));
}

// Values of one solution, each row of `stride` bytes.
constexpr std::size_t ValueBytes(std::int32_t num_classes, std::size_t stride) {
  return static_cast<std::size_t>(num_classes + 1) * stride;
}

}  // namespace tinytrain

#endif  // TINYTRAIN_CLOSED_FORM_SIZES_H_
