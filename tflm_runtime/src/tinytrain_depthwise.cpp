#include "tinytrain_strict_float.h"

#include "tinytrain_kernels.h"

#include "tinytrain_window.h"

#include "tinytrain_fast.h"

namespace tinytrain {
namespace {

// One channel of a depthwise convolution. A tensor's channel is a plane whose pixels lie `step` elements apart: all channels
// for a whole tensor, 1 for a plane by itself. The results of both are the same bit for bit, since the code is the same.
struct Channel {
  const float* d_output;
  std::int32_t d_output_step;
  const WindowShape& shape;

  // d_output[oy][ox] of this channel
  const float* At(std::int32_t oy, std::int32_t ox) const {
    return d_output + (oy * shape.output_width + ox) * d_output_step;
  }
};

constexpr std::int32_t kWindow = 8;  // windows up to 8 x 8 have their taps, as floats, on the stack
constexpr std::int32_t kMostPixels = 64;  // so have planes up to 8 x 8 their pixels
constexpr std::int32_t kRow = 16;  // of larger ones: pixels of a row at a time

bool IsSmallWindow(const WindowShape& s) { return s.kernel_height <= kWindow && s.kernel_width <= kWindow; }

// to[i] = (x[i * step] - zero_point) * scale
TINYTRAIN_APART void FillFloats(float* to, const std::int8_t* x, std::int32_t step, std::int32_t zero_point, float scale,
                                std::int32_t count) {
  std::int32_t i = 0;
  for (; i + kColumns <= count; i += kColumns, x += kColumns * step) {
    float some[kColumns];
    if (zero_point == 0) {
      ToFloats(some, x, step, 0);
    } else {
      ToFloats(some, x, step, zero_point);
    }
    TINYTRAIN_UNROLL for (std::int32_t c = 0; c < kColumns; ++c) some[c] *= scale;
    StoreRun(to, some);
  }
  for (; i < count; ++i, x += step) *to++ = static_cast<float>(*x - zero_point) * scale;
}

// Squares of kSide pixels, which a window of kWidth leaves as large as they were: most of a network's last blocks. 0: another.
std::int32_t SquareCase(const WindowShape& s) {
  const std::int32_t side = s.input_width, width = s.kernel_width, pad = width / 2;
  const bool fits = s.input_height == side && s.output_height == side && s.output_width == side && s.kernel_height == width &&
                    s.stride_height == 1 && s.stride_width == 1 && s.pad_top == pad && s.pad_left == pad;
  return fits ? 16 * width + side : 0;
}

TINYTRAIN_APART void CopyPixels(float* to, std::int32_t to_step, const float* from, std::int32_t from_step,
                                std::int32_t num_pixels) {
  TINYTRAIN_UNROLL_4 for (; num_pixels > 0; --num_pixels, to += to_step, from += from_step) *to = *from;
}

// d_input[iy][ix] += sum over ky, ox of d_output[iy + pad - ky][ox] * taps[ky][ix + pad - ox]
template <int kWidth, int kSide>
TINYTRAIN_APART void SquareInput(float* d_input, const float* d_output, const float* taps) {
  constexpr int kPad = kWidth / 2;
  for (int iy = 0; iy < kSide; ++iy, d_input += kSide) {
    const int first = iy > kSide - 1 - kPad ? iy - (kSide - 1 - kPad) : 0;
    const float* tap = taps + first * kWidth;
    const float* row = d_output + (iy + kPad - first) * kSide;
    float sums[kSide];
    TINYTRAIN_UNROLL for (int i = 0; i < kSide; ++i) sums[i] = d_input[i];
    for (int rows = (iy < kPad ? iy + kPad + 1 : kWidth) - first; rows > 0; --rows, tap += kWidth, row -= kSide) {
      TINYTRAIN_UNROLL for (int j = 0; j < kSide; ++j) {
        const float gradient = row[j];
        TINYTRAIN_UNROLL for (int i = 0; i < kSide; ++i) {
          const int kx = i - j + kPad;
          if (kx >= 0 && kx < kWidth) sums[i] += gradient * tap[kx];
        }
      }
    }
    TINYTRAIN_UNROLL for (int i = 0; i < kSide; ++i) d_input[i] = sums[i];
  }
}

// The same for the smallest planes: no loop is left, and taps stay in registers.
template <int kSide>
TINYTRAIN_APART void TinySquareInput(float* d_input, const float* d_output, const float* taps) {
  constexpr int kWidth = 3;
  float tap[kWidth][kWidth];
  TINYTRAIN_UNROLL for (int k = 0; k < kWidth * kWidth; ++k) tap[k / kWidth][k % kWidth] = taps[k];
  TINYTRAIN_UNROLL for (int iy = 0; iy < kSide; ++iy, d_input += kSide) {
    float sums[kSide];
    TINYTRAIN_UNROLL for (int i = 0; i < kSide; ++i) sums[i] = d_input[i];
    TINYTRAIN_UNROLL for (int ky = 0; ky < kWidth; ++ky) {
      const int oy = iy + 1 - ky;
      TINYTRAIN_UNROLL for (int j = 0; j < kSide; ++j) {
        TINYTRAIN_UNROLL for (int i = 0; i < kSide; ++i) {
          const int kx = i - j + 1;
          if (oy >= 0 && oy < kSide && kx >= 0 && kx < kWidth) sums[i] += d_output[oy * kSide + j] * tap[ky][kx];
        }
      }
    }
    TINYTRAIN_UNROLL for (int i = 0; i < kSide; ++i) d_input[i] = sums[i];
  }
}

// d_kernel[ky][kx] += sum over oy, ox of d_output[oy][ox] * input[oy + ky - pad][ox + kx - pad]
template <int kWidth, int kSide>
TINYTRAIN_APART void SquareKernel(float* d_kernel, const float* d_output, const float* input) {
  constexpr int kPad = kWidth / 2;
  for (int ky = 0; ky < kWidth; ++ky, d_kernel += kWidth) {
    const float* row = ky < kPad ? d_output + (kPad - ky) * kSide : d_output;
    const float* x = ky > kPad ? input + (ky - kPad) * kSide : input;
    float sums[kWidth];
    TINYTRAIN_UNROLL for (int kx = 0; kx < kWidth; ++kx) sums[kx] = d_kernel[kx];
    for (int rows = kSide - (ky < kPad ? kPad - ky : ky - kPad); rows > 0; --rows, row += kSide, x += kSide) {
      TINYTRAIN_UNROLL for (int j = 0; j < kSide; ++j) {
        const float gradient = row[j];
        TINYTRAIN_UNROLL for (int kx = 0; kx < kWidth; ++kx) {
          const int i = j + kx - kPad;
          if (i >= 0 && i < kSide) sums[kx] += gradient * x[i];
        }
      }
    }
    TINYTRAIN_UNROLL for (int kx = 0; kx < kWidth; ++kx) d_kernel[kx] = sums[kx];
  }
}

// to[j] = row[origin + j] - zero_point of `length` values that lie `step` apart, 0 outside
template <typename Value>
TINYTRAIN_APART void FillRow(float* to, std::int32_t count, const Value* row, std::int32_t step, std::int32_t zero_point,
                             std::int32_t origin, std::int32_t length) {
  const float* const end = to + count;
  for (; to != end && origin < 0; ++origin) *to++ = 0.0f;
  row += origin * step;
  const std::int32_t num_inside = Smaller(static_cast<std::int32_t>(end - to), length - origin);
  TINYTRAIN_UNROLL_4 for (std::int32_t i = 0; i < num_inside; ++i, row += step) {
    *to++ = static_cast<float>(*row - static_cast<Value>(zero_point));
  }
  while (to != end) *to++ = 0.0f;
}

// d_row[i] += sum over ky, kx of rows[ky][i + width - 1 - kx] * taps[ky][kx], for kColumns neighbours of which `count` exist
TINYTRAIN_APART void AddCorrelation(float* d_row, std::int32_t step, std::int32_t count, const float* const* rows,
                                    std::int32_t num_rows, const float* taps, std::int32_t width, std::int32_t x) {
  float sums[kColumns], apart[kColumns];
  const bool together = step == 1 && count >= kColumns;
  if (!together) CopyPixels(apart, 1, d_row, step, Smaller(count, kColumns));
  float* const place = together ? d_row : apart;
  const float* from_place = place;
  LoadRun<0>(sums, from_place);
  for (std::int32_t r = 0; r < num_rows; ++r, taps += width) {
    const float* first = rows[r] + x;
    for (const float* tap = taps + width; tap != taps; ++first) {
      const float weight = *--tap;
      const float* from = first;
      float gradients[kColumns];
      LoadRun<0>(gradients, from);
      TINYTRAIN_UNROLL for (std::int32_t i = 0; i < kColumns; ++i) sums[i] += gradients[i] * weight;
    }
  }
  float* to_place = place;
  StoreRun(to_place, sums);
  if (!together) CopyPixels(d_row, step, apart, 1, Smaller(count, kColumns));
}

// Stride 1: each row of d_input is a correlation of the rows of gradients around it, with zeros at their ends. The rows lie in
// a ring, row oy in slot oy % kWindow.
TINYTRAIN_APART void DepthwiseRowsInput(float* d_input, std::int32_t step, const Channel& channel, const float* taps) {
  const WindowShape& s = channel.shape;
  float ring[kWindow][kRow + kWindow - 1];
  const float* rows[kWindow];
  for (std::int32_t x0 = 0; x0 < s.input_width; x0 += kRow) {
    std::int32_t oy = 0;  // the next row of gradients
    for (std::int32_t iy = 0; iy < s.input_height; ++iy) {
      for (; oy <= iy + s.pad_top && oy < s.output_height; ++oy) {
        FillRow(ring[oy % kWindow], kRow + s.kernel_width - 1, channel.At(oy, 0), channel.d_output_step, 0,
                x0 + s.pad_left - (s.kernel_width - 1), s.output_width);
      }
      // tap ky meets row iy + pad_top - ky, the last one filled meets the first tap that counts
      const std::int32_t first = iy + s.pad_top - (oy - 1), last = Smaller(s.kernel_height, iy + s.pad_top + 1);
      for (std::int32_t ky = first; ky < last; ++ky) rows[ky - first] = ring[(iy + s.pad_top - ky) % kWindow];
      for (std::int32_t x = 0; x < kRow && x0 + x < s.input_width; x += kColumns) {
        AddCorrelation(d_input + (iy * s.input_width + x0 + x) * step, step, s.input_width - x0 - x, rows, last - first,
                       taps + first * s.kernel_width, s.kernel_width, x);
      }
    }
  }
}

// Any window and stride; taps are the kernel's weights, times scale already if they are floats.
template <typename Tap>
TINYTRAIN_APART void DepthwiseAnyInput(float* d_input, std::int32_t step, const Channel& channel, const Tap* taps,
                                       std::int32_t tap_step, float scale) {
  const WindowShape& s = channel.shape;
  const float* d_output = channel.d_output;
  for (std::int32_t oy = 0; oy < s.output_height; ++oy) {
    const Taps rows = RowTaps(oy, s);
    for (std::int32_t ox = 0; ox < s.output_width; ++ox, d_output += channel.d_output_step) {
      const float gradient = *d_output * scale;
      if (gradient == 0.0f) continue;
      const Taps columns = ColumnTaps(ox, s);
      const Tap* tap_row = taps + (rows.first * s.kernel_width + columns.first) * tap_step;
      float* d_row = d_input + ((rows.origin + rows.first) * s.input_width + columns.origin + columns.first) * step;
      for (std::int32_t ky = rows.first; ky < rows.last; ++ky) {
        const Tap* tap = tap_row;
        float* d_pixel = d_row;
        for (std::int32_t left = columns.last - columns.first; left > 0; --left, tap += tap_step, d_pixel += step) {
          *d_pixel += gradient * static_cast<float>(*tap);
        }
        tap_row += s.kernel_width * tap_step;
        d_row += s.input_width * step;
      }
    }
  }
}

// False: there is no kernel for this one.
bool SquareInput(float* d_input, const float* d_output, const float* taps, std::int32_t square) {
  switch (square) {
    case 0x33: TinySquareInput<3>(d_input, d_output, taps); return true;
    case 0x34: TinySquareInput<4>(d_input, d_output, taps); return true;
    case 0x36: SquareInput<3, 6>(d_input, d_output, taps); return true;
    case 0x38: SquareInput<3, 8>(d_input, d_output, taps); return true;
    case 0x54: SquareInput<5, 4>(d_input, d_output, taps); return true;
    case 0x58: SquareInput<5, 8>(d_input, d_output, taps); return true;
    case 0x74: SquareInput<7, 4>(d_input, d_output, taps); return true;
    case 0x78: SquareInput<7, 8>(d_input, d_output, taps); return true;
    default: return false;
  }
}

// Planes whose pixels lie apart are put together meanwhile.
bool DepthwiseSquareInput(float* d_input, std::int32_t step, const Channel& channel, const float* taps) {
  const WindowShape& s = channel.shape;
  const std::int32_t square = SquareCase(s), num_pixels = s.input_height * s.input_width;
  if (square == 0 || num_pixels > kMostPixels) return false;
  if (step == 1 && channel.d_output_step == 1) return SquareInput(d_input, channel.d_output, taps, square);
  float gradients[kMostPixels], sums[kMostPixels];
  CopyPixels(gradients, 1, channel.d_output, channel.d_output_step, num_pixels);
  CopyPixels(sums, 1, d_input, step, num_pixels);
  if (!SquareInput(sums, gradients, taps, square)) return false;
  CopyPixels(d_input, step, sums, 1, num_pixels);
  return true;
}

TINYTRAIN_APART void DepthwiseChannelInput(float* d_input, std::int32_t step, const Channel& channel, const std::int8_t* kernel,
                                           float scale) {
  const WindowShape& s = channel.shape;
  if (!IsSmallWindow(s)) return DepthwiseAnyInput(d_input, step, channel, kernel, s.input_channels, scale);
  float taps[kWindow * kWindow];
  FillFloats(taps, kernel, s.input_channels, 0, scale, s.kernel_height * s.kernel_width);
  if (s.stride_height != 1 || s.stride_width != 1) return DepthwiseAnyInput(d_input, step, channel, taps, 1, 1.0f);
  if (!DepthwiseSquareInput(d_input, step, channel, taps)) DepthwiseRowsInput(d_input, step, channel, taps);
}

// sum + sum over num_runs * kColumns ox of gradients[ox] * x[ox]
inline float AddDotProduct(float sum, const float* gradients, const float* x, std::int32_t num_runs) {
  for (; num_runs > 0; --num_runs) {
    float some[kColumns], values[kColumns];
    LoadRun<0>(some, gradients);
    LoadRun<8>(values, x);
    TINYTRAIN_UNROLL for (std::int32_t c = 0; c < kColumns; ++c) sum += some[c] * values[c];
  }
  return sum;
}

// Stride 1: rows of gradients with rows of the input, both with zeros at their ends; of the input's a ring, row iy in slot
// iy % kWindow.
TINYTRAIN_APART void DepthwiseRowsKernel(float* d_kernel, const Channel& channel, const std::int8_t* input,
                                         std::int32_t zero_point) {
  const WindowShape& s = channel.shape;
  constexpr std::int32_t kLength = kRow + kWindow - 1;
  float ring[kWindow][kLength], gradients[kRow];
  for (std::int32_t ox0 = 0; ox0 < s.output_width; ox0 += kRow) {
    const std::int32_t num_runs = (Smaller(kRow, s.output_width - ox0) + kColumns - 1) / kColumns;
    std::int32_t iy = 0;  // the next row of the input
    for (std::int32_t oy = 0; oy < s.output_height; ++oy) {
      const Taps rows = RowTaps(oy, s);
      for (; iy < rows.origin + rows.last; ++iy) {
        const std::int8_t* row = input + iy * s.input_width * s.input_channels;
        FillRow(ring[iy % kWindow], kLength, row, s.input_channels, zero_point, ox0 - s.pad_left, s.input_width);
      }
      FillRow(gradients, kRow, channel.At(oy, 0), channel.d_output_step, 0, ox0, s.output_width);
      for (std::int32_t ky = rows.first; ky < rows.last; ++ky) {
        float* d_row = d_kernel + ky * s.kernel_width;
        const float* x = ring[(rows.origin + ky) % kWindow];
        for (const float* end = x + s.kernel_width; x != end; ++x, ++d_row) {
          *d_row = AddDotProduct(*d_row, gradients, x, num_runs);
        }
      }
    }
  }
}

// Any window and stride.
TINYTRAIN_APART void DepthwiseAnyKernel(float* d_kernel, const Channel& channel, const std::int8_t* input,
                                        std::int32_t zero_point) {
  const WindowShape& s = channel.shape;
  for (std::int32_t oy = 0; oy < s.output_height; ++oy) {
    const Taps rows = RowTaps(oy, s);
    for (std::int32_t ox = 0; ox < s.output_width; ++ox) {
      const float gradient = *channel.At(oy, ox);
      if (gradient == 0.0f) continue;
      const Taps columns = ColumnTaps(ox, s);
      for (std::int32_t ky = rows.first; ky < rows.last; ++ky) {
        const std::int32_t pixel = (rows.origin + ky) * s.input_width + columns.origin;
        for (std::int32_t kx = columns.first; kx < columns.last; ++kx) {
          const std::int32_t x = input[(pixel + kx) * s.input_channels] - zero_point;
          d_kernel[ky * s.kernel_width + kx] += gradient * static_cast<float>(x);
        }
      }
    }
  }
}

bool SquareKernel(float* d_kernel, const float* d_output, const float* input, std::int32_t square) {
  switch (square) {
    case 0x33: SquareKernel<3, 3>(d_kernel, d_output, input); return true;
    case 0x34: SquareKernel<3, 4>(d_kernel, d_output, input); return true;
    case 0x36: SquareKernel<3, 6>(d_kernel, d_output, input); return true;
    case 0x38: SquareKernel<3, 8>(d_kernel, d_output, input); return true;
    case 0x54: SquareKernel<5, 4>(d_kernel, d_output, input); return true;
    case 0x58: SquareKernel<5, 8>(d_kernel, d_output, input); return true;
    case 0x74: SquareKernel<7, 4>(d_kernel, d_output, input); return true;
    case 0x78: SquareKernel<7, 8>(d_kernel, d_output, input); return true;
    default: return false;
  }
}

bool DepthwiseSquareKernel(float* d_kernel, const Channel& channel, const std::int8_t* input, std::int32_t zero_point) {
  const WindowShape& s = channel.shape;
  const std::int32_t square = SquareCase(s), num_pixels = s.input_height * s.input_width;
  if (square == 0 || num_pixels > kMostPixels) return false;
  float x[kMostPixels], gradients[kMostPixels];
  FillFloats(x, input, s.input_channels, zero_point, 1.0f, num_pixels);
  if (channel.d_output_step == 1) return SquareKernel(d_kernel, channel.d_output, x, square);
  CopyPixels(gradients, 1, channel.d_output, channel.d_output_step, num_pixels);
  return SquareKernel(d_kernel, gradients, x, square);
}

TINYTRAIN_APART void DepthwiseChannelKernel(float* d_kernel, float* d_bias, const Channel& channel, const std::int8_t* input,
                                            std::int32_t zero_point) {
  const WindowShape& s = channel.shape;
  if (d_bias != nullptr) *d_bias += Sum(channel.d_output, channel.d_output_step, s.output_height * s.output_width);
  if (DepthwiseSquareKernel(d_kernel, channel, input, zero_point)) return;
  if (IsSmallWindow(s) && s.stride_height == 1 && s.stride_width == 1) {
    DepthwiseRowsKernel(d_kernel, channel, input, zero_point);
  } else {
    DepthwiseAnyKernel(d_kernel, channel, input, zero_point);
  }
}

}  // namespace

// output[oy][ox][c] = bias[c] + sum over ky, kx of kernel[ky][kx][c] * input[oy * stride + ky - pad][...][c]
// d_input[...][c] = sum over ky, kx of kernel[ky][kx][c] * d_output[oy][ox][c]
void DepthwiseBackwardInput(float* d_input, const float* d_output, const std::int8_t* kernel, const float* kernel_scales,
                            const WindowShape& s) {
  for (std::int32_t c = 0; c < s.output_channels; ++c) {
    DepthwiseChannelInput(d_input + c, s.output_channels, {d_output + c, s.output_channels, s}, kernel + c, kernel_scales[c]);
  }
}

// d_kernel[c][ky][kx] = sum over oy, ox of input[oy * stride + ky - pad][...][c] * d_output[oy][ox][c]
void DepthwiseBackwardKernel(float* d_kernel, float* d_bias, const float* d_output, const std::int8_t* input,
                             std::int32_t zero_point, const ChannelList& list, const WindowShape& s) {
  for (std::int32_t n = 0; n < list.num_channels; ++n, d_kernel += s.kernel_height * s.kernel_width) {
    const std::int32_t c = list.channels[n];
    DepthwiseChannelKernel(d_kernel, d_bias == nullptr ? nullptr : d_bias + n, {d_output + c, s.output_channels, s}, input + c,
                           zero_point);
  }
}

void DepthwiseBackwardPlane(float* d_input, const float* d_output, const std::int8_t* kernel, float kernel_scale,
                            std::int32_t channel, const WindowShape& s) {
  DepthwiseChannelInput(d_input, 1, {d_output, 1, s}, kernel + channel, kernel_scale);
}

void DepthwiseBackwardPlaneKernel(float* d_kernel, float* d_bias, const float* d_output, const std::int8_t* input,
                                  std::int32_t zero_point, std::int32_t channel, const WindowShape& s) {
  DepthwiseChannelKernel(d_kernel, d_bias, {d_output, 1, s}, input + channel, zero_point);
}

}  // namespace tinytrain
