// The taps of a sliding window that lie on its input.
#ifndef TINYTRAIN_WINDOW_H_
#define TINYTRAIN_WINDOW_H_

#include <cstdint>

#include "tinytrain/kernels/kernels.h"

namespace tinytrain {

// The taps of a window that lie inside the input along one axis: [first, last).
struct Taps {
  std::int32_t origin;  // input coordinate of tap 0; may be negative
  std::int32_t first;
  std::int32_t last;
};

inline Taps TapsInside(std::int32_t output_index, std::int32_t stride, std::int32_t pad, std::int32_t kernel_size,
                       std::int32_t input_size) {
  Taps taps;
  taps.origin = output_index * stride - pad;
  taps.first = taps.origin < 0 ? -taps.origin : 0;
  taps.last = input_size - taps.origin < kernel_size ? input_size - taps.origin : kernel_size;
  return taps;
}

inline Taps RowTaps(std::int32_t output_y, const WindowShape& s) {
  return TapsInside(output_y, s.stride_height, s.pad_top, s.kernel_height, s.input_height);
}

inline Taps ColumnTaps(std::int32_t output_x, const WindowShape& s) {
  return TapsInside(output_x, s.stride_width, s.pad_left, s.kernel_width, s.input_width);
}

}  // namespace tinytrain

#endif  // TINYTRAIN_WINDOW_H_
