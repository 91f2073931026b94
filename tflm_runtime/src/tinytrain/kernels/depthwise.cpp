#include "tinytrain/numerics/strict_float.h"

#include "tinytrain/kernels/kernels.h"

#include "tinytrain/kernels/squares.h"
#include "tinytrain/kernels/window.h"

#include "tinytrain/kernels/fast.h"

namespace tinytrain {
namespace {

constexpr std::int32_t kWindow = 8;  // windows up to 8 x 8 have their taps as floats on the stack
constexpr std::int32_t kRow = 16;    // pixels of a row at a time

bool IsSmallWindow(const WindowShape& s) { return s.kernel_height <= kWindow && s.kernel_width <= kWindow; }

TINYTRAIN_APART void CopyPixels(float* to, std::int32_t to_step, const float* from, std::int32_t from_step,
                                std::int32_t num_pixels) {
  TINYTRAIN_UNROLL_4 for (; num_pixels > 0; --num_pixels, to += to_step, from += from_step)* to = *from;
}

const float* RowOf(Plane<const float> d_output, std::int32_t oy, const WindowShape& s) {
  return d_output.first + oy * s.output_width * d_output.step;
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

// d_row[i] += sum over ky, kx of rows[ky][i + width - 1 - kx] * taps[ky][kx], for kColumns neighbours; `count` of them exist
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
  StoreRun<0>(to_place, sums);
  if (!together) CopyPixels(d_row, step, apart, 1, Smaller(count, kColumns));
}

// Stride 1: each row of d_input is a correlation of the rows of gradients around it, with zeros at their ends. The rows lie in
// a ring, row oy in slot oy % kWindow.
TINYTRAIN_APART void DepthwiseRowsInput(Plane<float> d_input, Plane<const float> d_output, const float* taps,
                                        const WindowShape& s) {
  float ring[kWindow][kRow + kWindow - 1];
  const float* rows[kWindow];
  for (std::int32_t x0 = 0; x0 < s.input_width; x0 += kRow) {
    std::int32_t oy = 0;  // the next row of gradients
    for (std::int32_t iy = 0; iy < s.input_height; ++iy) {
      for (; oy <= iy + s.pad_top && oy < s.output_height; ++oy) {
        FillRow(ring[oy % kWindow], kRow + s.kernel_width - 1, RowOf(d_output, oy, s), d_output.step, 0,
                x0 + s.pad_left - (s.kernel_width - 1), s.output_width);
      }
      // tap ky meets row iy + pad_top - ky, the last one filled meets the first tap that counts
      const std::int32_t first = iy + s.pad_top - (oy - 1), last = Smaller(s.kernel_height, iy + s.pad_top + 1);
      for (std::int32_t ky = first; ky < last; ++ky) rows[ky - first] = ring[(iy + s.pad_top - ky) % kWindow];
      for (std::int32_t x = 0; x < kRow && x0 + x < s.input_width; x += kColumns) {
        AddCorrelation(d_input.first + (iy * s.input_width + x0 + x) * d_input.step, d_input.step, s.input_width - x0 - x, rows,
                       last - first, taps + first * s.kernel_width, s.kernel_width, x);
      }
    }
  }
}

// Any window and stride. Taps are the kernel's weights; float taps are multiplied by the scale already.
template <typename Tap>
TINYTRAIN_APART void DepthwiseAnyInput(Plane<float> d_input, Plane<const float> d_output, Plane<const Tap> taps, float scale,
                                       const WindowShape& s) {
  const std::int32_t step = d_input.step, tap_step = taps.step;
  const float* d_pixel_output = d_output.first;
  for (std::int32_t oy = 0; oy < s.output_height; ++oy) {
    const Taps rows = RowTaps(oy, s);
    for (std::int32_t ox = 0; ox < s.output_width; ++ox, d_pixel_output += d_output.step) {
      const float gradient = *d_pixel_output * scale;
      if (gradient == 0.0f) continue;
      const Taps columns = ColumnTaps(ox, s);
      const Tap* tap_row = taps.first + (rows.first * s.kernel_width + columns.first) * tap_step;
      float* d_row = d_input.first + ((rows.origin + rows.first) * s.input_width + columns.origin + columns.first) * step;
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

// Shapes without code of their own.
void AnyInput(Plane<float> d_input, Plane<const float> d_output, Plane<const std::int8_t> kernel, float scale,
              const WindowShape& s) {
  if (!IsSmallWindow(s)) return DepthwiseAnyInput(d_input, d_output, kernel, scale, s);
  float taps[kWindow * kWindow];
  FillFloats(taps, kernel.first, kernel.step, ScaledWeight{scale}, s.kernel_height * s.kernel_width);
  if (s.stride_height == 1 && s.stride_width == 1) return DepthwiseRowsInput(d_input, d_output, taps, s);
  DepthwiseAnyInput<float>(d_input, d_output, {taps, 1}, 1.0f, s);
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

// Stride 1: rows of gradients with rows of the input, both with zeros at their ends. The input's rows lie in a ring, row iy in
// slot iy % kWindow.
TINYTRAIN_APART void DepthwiseRowsKernel(float* d_kernel, Plane<const float> d_output, Plane<const std::int8_t> input,
                                         std::int32_t zero_point, const WindowShape& s) {
  constexpr std::int32_t kLength = kRow + kWindow - 1;
  float ring[kWindow][kLength], gradients[kRow];
  for (std::int32_t ox0 = 0; ox0 < s.output_width; ox0 += kRow) {
    const std::int32_t num_runs = (Smaller(kRow, s.output_width - ox0) + kColumns - 1) / kColumns;
    std::int32_t iy = 0;  // the next row of the input
    for (std::int32_t oy = 0; oy < s.output_height; ++oy) {
      const Taps rows = RowTaps(oy, s);
      for (; iy < rows.origin + rows.last; ++iy) {
        const std::int8_t* row = input.first + iy * s.input_width * input.step;
        FillRow(ring[iy % kWindow], kLength, row, input.step, zero_point, ox0 - s.pad_left, s.input_width);
      }
      FillRow(gradients, kRow, RowOf(d_output, oy, s), d_output.step, 0, ox0, s.output_width);
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
TINYTRAIN_APART void DepthwiseAnyKernel(float* d_kernel, Plane<const float> d_output, Plane<const std::int8_t> input,
                                        std::int32_t zero_point, const WindowShape& s) {
  const float* d_pixel_output = d_output.first;
  for (std::int32_t oy = 0; oy < s.output_height; ++oy) {
    const Taps rows = RowTaps(oy, s);
    for (std::int32_t ox = 0; ox < s.output_width; ++ox, d_pixel_output += d_output.step) {
      const float gradient = *d_pixel_output;
      if (gradient == 0.0f) continue;
      const Taps columns = ColumnTaps(ox, s);
      for (std::int32_t ky = rows.first; ky < rows.last; ++ky) {
        const std::int32_t pixel = (rows.origin + ky) * s.input_width + columns.origin;
        for (std::int32_t kx = columns.first; kx < columns.last; ++kx) {
          const std::int32_t x = input.first[(pixel + kx) * input.step] - zero_point;
          d_kernel[ky * s.kernel_width + kx] += gradient * static_cast<float>(x);
        }
      }
    }
  }
}

void AnyKernel(float* d_kernel, Plane<const float> d_output, Plane<const std::int8_t> input, std::int32_t zero_point,
               const WindowShape& s) {
  if (IsSmallWindow(s) && s.stride_height == 1 && s.stride_width == 1) {
    DepthwiseRowsKernel(d_kernel, d_output, input, zero_point, s);
  } else {
    DepthwiseAnyKernel(d_kernel, d_output, input, zero_point, s);
  }
}

constexpr ChannelCode kAny = {&AnyInput, &AnyKernel};

void AddBias(float* d_bias, Plane<const float> d_output, const WindowShape& s) {
  if (d_bias != nullptr) *d_bias += Sum(d_output.first, d_output.step, s.output_height * s.output_width);
}

}  // namespace

DepthwiseShape::DepthwiseShape(const WindowShape& shape) : window(shape), code(SquareCode(shape)) {
  if (code == nullptr) code = &kAny;
}

// output[oy][ox][c] = bias[c] + sum over ky, kx of kernel[ky][kx][c] * input[oy * stride + ky - pad][...][c]
// d_input[...][c] = sum over ky, kx of kernel[ky][kx][c] * d_output[oy][ox][c]
void DepthwiseBackwardInput(float* d_input, const float* d_output, const std::int8_t* kernel, const float* kernel_scales,
                            const WindowShape& s) {
  const DepthwiseShape shape(s);
  const std::int32_t step = s.output_channels;
  for (std::int32_t c = 0; c < step; ++c) {
    shape.code->input({d_input + c, step}, {d_output + c, step}, {kernel + c, step}, kernel_scales[c], s);
  }
}

// d_kernel[c][ky][kx] = sum over oy, ox of input[oy * stride + ky - pad][...][c] * d_output[oy][ox][c]
void DepthwiseBackwardKernel(float* d_kernel, float* d_bias, const float* d_output, const std::int8_t* input,
                             std::int32_t zero_point, const ChannelList& list, const WindowShape& s) {
  const DepthwiseShape shape(s);
  const std::int32_t step = s.output_channels;
  for (std::int32_t n = 0; n < list.num_channels; ++n, d_kernel += s.kernel_height * s.kernel_width) {
    const Plane<const float> gradients = {d_output + list.channels[n], step};
    shape.code->kernel(d_kernel, gradients, {input + list.channels[n], step}, zero_point, s);
    AddBias(d_bias == nullptr ? nullptr : d_bias + n, gradients, s);
  }
}

void DepthwiseBackwardPlane(float* d_input, const float* d_output, const std::int8_t* kernel, float kernel_scale,
                            std::int32_t channel, const DepthwiseShape& shape) {
  const WindowShape& s = shape.window;
  shape.code->input({d_input, 1}, {d_output, 1}, {kernel + channel, s.output_channels}, kernel_scale, s);
}

void DepthwiseBackwardPlaneKernel(float* d_kernel, float* d_bias, const float* d_output, const std::int8_t* input,
                                  std::int32_t zero_point, std::int32_t channel, const DepthwiseShape& shape) {
  const WindowShape& s = shape.window;
  shape.code->kernel(d_kernel, {d_output, 1}, {input + channel, s.output_channels}, zero_point, s);
  AddBias(d_bias, {d_output, 1}, s);
}

}  // namespace tinytrain
