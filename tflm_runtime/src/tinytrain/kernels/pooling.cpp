#include "tinytrain/numerics/strict_float.h"

#include "tinytrain/kernels/pooling.h"

namespace tinytrain {
namespace {

// The inputs of one window along one axis: [first, last).
struct Range {
  std::int32_t first;
  std::int32_t last;
};

Range WindowAt(std::int32_t output_index, std::int32_t stride, std::int32_t pad, std::int32_t kernel_size,
               std::int32_t input_size) {
  const std::int32_t first = output_index * stride - pad, last = first + kernel_size;
  return {first < 0 ? 0 : first, last < input_size ? last : input_size};
}

// Index of the first largest value of a window; `input` points to one channel of the first pixel.
std::int32_t ArgMax(const std::int8_t* input, const Range& rows, const Range& columns, const WindowShape& s) {
  std::int32_t best = (rows.first * s.input_width + columns.first) * s.input_channels;
  for (std::int32_t y = rows.first; y < rows.last; ++y) {
    for (std::int32_t x = columns.first; x < columns.last; ++x) {
      const std::int32_t index = (y * s.input_width + x) * s.input_channels;
      if (input[index] > input[best]) best = index;
    }
  }
  return best;
}

}  // namespace

// output[oy][ox][c] = max over ky, kx of input[oy * stride + ky - pad][...][c];  d_input[its place][c] += d_output[oy][ox][c]
void MaxPoolBackward(float* d_input, const float* d_output, const std::int8_t* input, const WindowShape& s) {
  for (std::int32_t oy = 0; oy < s.output_height; ++oy) {
    const Range rows = WindowAt(oy, s.stride_height, s.pad_top, s.kernel_height, s.input_height);
    for (std::int32_t ox = 0; ox < s.output_width; ++ox) {
      const Range columns = WindowAt(ox, s.stride_width, s.pad_left, s.kernel_width, s.input_width);
      for (std::int32_t c = 0; c < s.output_channels; ++c) {
        d_input[ArgMax(input + c, rows, columns, s) + c] += *d_output++;
      }
    }
  }
}

// output[y + pad_top][x + pad_left][c] = input[y][x][c];  d_input[y][x][c] = d_output[y + pad_top][x + pad_left][c]
void PadBackward(float* d_input, const float* d_output, const WindowShape& s) {
  const std::int32_t row = s.input_width * s.input_channels;
  for (std::int32_t y = 0; y < s.input_height; ++y, d_input += row) {
    const float* from = d_output + ((y + s.pad_top) * s.output_width + s.pad_left) * s.input_channels;
    for (std::int32_t i = 0; i < row; ++i) d_input[i] += from[i];
  }
}

}  // namespace tinytrain
