#include "tinytrain_strict_float.h"

#include "tinytrain_kernels.h"

#include <cstring>

// A board's sketch is compiled for size (-Os), which leaves the constant loops over a tile as loops. Here they must go: only
// then does a tile live in registers. What is not to be repeated in each caller is kept apart.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("O2", "fp-contract=off", "no-schedule-insns")  // the scheduler would need more registers than there are
#define TINYTRAIN_UNROLL _Pragma("GCC unroll 16")
#define TINYTRAIN_UNROLL_4 _Pragma("GCC unroll 4")
#define TINYTRAIN_ONE_POINTER(p) asm("" : "+r"(p))  // or each p[i] of an unrolled loop gets a pointer of its own
#define TINYTRAIN_APART __attribute__((noinline))
#else
#define TINYTRAIN_UNROLL
#define TINYTRAIN_UNROLL_4
#define TINYTRAIN_ONE_POINTER(p)
#define TINYTRAIN_APART
#endif

namespace tinytrain {
namespace {

// A Cortex-M4F has 32 float registers, and a multiply-accumulate is two instructions without contraction. What is above that is
// loads, so each float loaded should serve a tile's side of them: 4 x 6 sums, 4 + 6 operands. int8 operands are made floats
// once for a panel of kPanel rows (pixels, or output channels), which lies on the stack.
constexpr std::int32_t kTile = 4;
constexpr std::int32_t kColumns = 6;
constexpr std::int32_t kPanel = 48;
constexpr std::int32_t kRow = 32;  // of a depthwise convolution: pixels of a row at a time

std::int32_t Smaller(std::int32_t a, std::int32_t b) { return a < b ? a : b; }

// panel[r][0..kColumns) = x[r * row_step + c] - zero_point, 0 from column `columns` on
TINYTRAIN_APART void FillPanel(float* panel, const std::int8_t* x, std::int32_t row_step, std::int32_t zero_point,
                               std::int32_t rows, std::int32_t columns) {
  for (std::int32_t r = 0; r < rows; ++r, x += row_step, panel += kColumns) {
    if (columns == kColumns) {
      TINYTRAIN_UNROLL for (std::int32_t c = 0; c < kColumns; ++c) panel[c] = static_cast<float>(x[c] - zero_point);
      continue;
    }
    for (std::int32_t c = 0; c < kColumns; ++c) panel[c] = c < columns ? static_cast<float>(x[c] - zero_point) : 0.0f;
  }
}

// The taps of a window that lie inside the input along one axis: [first, last).
struct Taps {
  std::int32_t origin;  // input coordinate of tap 0; may be negative
  std::int32_t first;
  std::int32_t last;
};

Taps TapsInside(std::int32_t output_index, std::int32_t stride, std::int32_t pad, std::int32_t kernel_size,
                std::int32_t input_size) {
  Taps taps;
  taps.origin = output_index * stride - pad;
  taps.first = taps.origin < 0 ? -taps.origin : 0;
  taps.last = input_size - taps.origin < kernel_size ? input_size - taps.origin : kernel_size;
  return taps;
}

Taps RowTaps(std::int32_t output_y, const WindowShape& s) {
  return TapsInside(output_y, s.stride_height, s.pad_top, s.kernel_height, s.input_height);
}

Taps ColumnTaps(std::int32_t output_x, const WindowShape& s) {
  return TapsInside(output_x, s.stride_width, s.pad_left, s.kernel_width, s.input_width);
}

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

constexpr std::int32_t kMostTaps = 49;  // windows up to 7 x 7 have their rows' kernels below

void FillTaps(float* taps, const std::int8_t* kernel, const WindowShape& s) {
  for (std::int32_t k = 0; k < s.kernel_height * s.kernel_width; ++k, kernel += s.input_channels) {
    taps[k] = static_cast<float>(*kernel);
  }
}

// The part of a row's piece that lies inside: values [begin, end) of the piece, the first of them at index `first` of the row.
struct Piece {
  std::int32_t begin;
  std::int32_t end;
  std::int32_t first;
};

// The piece has `count` values, and its value 0 is the row's at `origin`, which may lie outside. What does is set to 0.
Piece ClearOutside(float* piece, std::int32_t origin, std::int32_t count, std::int32_t row_length) {
  Piece inside;
  inside.begin = origin < 0 ? Smaller(-origin, count) : 0;
  inside.end = Smaller(count, row_length - origin);
  inside.first = origin + inside.begin;
  for (std::int32_t j = 0; j < inside.begin; ++j) piece[j] = 0.0f;
  for (std::int32_t j = inside.end > inside.begin ? inside.end : inside.begin; j < count; ++j) piece[j] = 0.0f;
  return inside;
}

// d_row[x] += sum over r, kx of rows[r][x + kWidth - 1 - kx] * taps[r][kx], for kCount neighbours
template <int kWidth, int kCount>
inline void AddCorrelation(float* d_row, std::int32_t step, const float* const* rows, std::int32_t num_rows, std::int32_t x,
                           const float* taps) {
  float sums[kCount];
  TINYTRAIN_UNROLL for (int i = 0; i < kCount; ++i) sums[i] = d_row[i * step];
  for (std::int32_t r = 0; r < num_rows; ++r, taps += kWidth) {
    const float* gradients = rows[r] + x;
    TINYTRAIN_ONE_POINTER(gradients);
    TINYTRAIN_UNROLL for (int j = 0; j < kCount + kWidth - 1; ++j) {
      const float gradient = gradients[j];
      TINYTRAIN_UNROLL for (int i = 0; i < kCount; ++i) {
        const int kx = i + kWidth - 1 - j;
        if (kx >= 0 && kx < kWidth) sums[i] += gradient * taps[kx];
      }
    }
  }
  TINYTRAIN_UNROLL for (int i = 0; i < kCount; ++i) d_row[i * step] = sums[i];
}

// Stride 1: each row of d_input is a correlation of the rows of gradients around it, with zeros at their ends. The rows lie in
// a ring, row oy in slot oy % kernel_height.
template <int kWidth>
TINYTRAIN_APART void DepthwiseRowsInput(float* d_input, std::int32_t step, const Channel& channel, const std::int8_t* kernel,
                                        float scale) {
  const WindowShape& s = channel.shape;
  constexpr std::int32_t kLength = kRow + kWidth - 1;
  float ring[kMostTaps / kWidth][kLength];
  float taps[kMostTaps];
  const float* rows[kMostTaps / kWidth];
  FillTaps(taps, kernel, s);
  for (std::int32_t x0 = 0; x0 < s.input_width; x0 += kRow) {
    const std::int32_t count = Smaller(kRow, s.input_width - x0);
    Piece inside{};
    for (std::int32_t r = 0; r < s.kernel_height; ++r) {
      inside = ClearOutside(ring[r], x0 + s.pad_left - (kWidth - 1), count + kWidth - 1, s.output_width);
    }
    std::int32_t oy = 0, slot = 0;  // the next row of gradients, and where it goes
    for (std::int32_t iy = 0; iy < s.input_height; ++iy) {
      for (; oy <= iy + s.pad_top && oy < s.output_height; ++oy, slot = slot + 1 == s.kernel_height ? 0 : slot + 1) {
        float* row = ring[slot];
        const float* gradient = channel.At(oy, inside.first);
        const std::int32_t d_step = channel.d_output_step;
        TINYTRAIN_UNROLL_4 for (std::int32_t j = inside.begin; j < inside.end; ++j, gradient += d_step) {
          row[j] = *gradient * scale;
        }
      }
      // tap ky meets row iy + pad_top - ky, the last one filled meets the first tap that counts
      const std::int32_t first = iy + s.pad_top - (oy - 1);
      std::int32_t num_rows = 0;
      std::int32_t from = slot;
      for (std::int32_t ky = first; ky < s.kernel_height && ky <= iy + s.pad_top; ++ky) {
        from = from == 0 ? s.kernel_height - 1 : from - 1;
        rows[num_rows++] = ring[from];
      }
      float* d_row = d_input + (iy * s.input_width + x0) * step;
      const float* tap = taps + first * kWidth;
      std::int32_t x = 0;
      for (; x + 8 <= count; x += 8, d_row += 8 * step) AddCorrelation<kWidth, 8>(d_row, step, rows, num_rows, x, tap);
      for (; x + 4 <= count; x += 4, d_row += 4 * step) AddCorrelation<kWidth, 4>(d_row, step, rows, num_rows, x, tap);
      for (; x < count; ++x, d_row += step) AddCorrelation<kWidth, 1>(d_row, step, rows, num_rows, x, tap);
    }
  }
}

// Any window and stride.
TINYTRAIN_APART void DepthwiseAnyInput(float* d_input, std::int32_t step, const Channel& channel, const std::int8_t* kernel,
                                       float scale) {
  const WindowShape& s = channel.shape;
  for (std::int32_t oy = 0; oy < s.output_height; ++oy) {
    const Taps rows = RowTaps(oy, s);
    for (std::int32_t ox = 0; ox < s.output_width; ++ox) {
      const float gradient = *channel.At(oy, ox) * scale;
      if (gradient == 0.0f) continue;
      const Taps columns = ColumnTaps(ox, s);
      for (std::int32_t ky = rows.first; ky < rows.last; ++ky) {
        float* d_row = d_input + ((rows.origin + ky) * s.input_width + columns.origin) * step;
        const std::int8_t* taps = kernel + ky * s.kernel_width * s.input_channels;
        for (std::int32_t kx = columns.first; kx < columns.last; ++kx) {
          d_row[kx * step] += gradient * static_cast<float>(taps[kx * s.input_channels]);
        }
      }
    }
  }
}

TINYTRAIN_APART void DepthwiseChannelInput(float* d_input, std::int32_t step, const Channel& channel, const std::int8_t* kernel,
                                           float scale) {
  const WindowShape& s = channel.shape;
  switch (s.stride_height == 1 && s.stride_width == 1 && s.kernel_height * s.kernel_width <= kMostTaps ? s.kernel_width : 0) {
    case 3: return DepthwiseRowsInput<3>(d_input, step, channel, kernel, scale);
    case 5: return DepthwiseRowsInput<5>(d_input, step, channel, kernel, scale);
    case 7: return DepthwiseRowsInput<7>(d_input, step, channel, kernel, scale);
    default: return DepthwiseAnyInput(d_input, step, channel, kernel, scale);
  }
}

// sums[kx] += sum over ox of gradient[ox * step] * x[ox + kx]: each of kCount + kWidth - 1 values serves all that meet it
template <int kWidth, int kCount>
inline void AddProducts(float (&sums)[kWidth], const float* gradient, std::int32_t step, const float* x) {
  float gradients[kCount];
  TINYTRAIN_UNROLL for (int i = 0; i < kCount; ++i, gradient += step) gradients[i] = *gradient;
  TINYTRAIN_UNROLL for (int j = 0; j < kCount + kWidth - 1; ++j) {
    const float value = x[j];
    TINYTRAIN_UNROLL for (int i = 0; i < kCount; ++i) {
      const int kx = j - i;
      if (kx >= 0 && kx < kWidth) sums[kx] += gradients[i] * value;
    }
  }
}

// d_row[kx] += sum over ox of gradient[ox * step] * x[ox * stride + kx]
template <int kWidth>
inline void AddRowProducts(float* d_row, const float* gradient, std::int32_t step, const float* x, std::int32_t stride,
                           std::int32_t count) {
  float sums[kWidth];
  TINYTRAIN_UNROLL for (int kx = 0; kx < kWidth; ++kx) sums[kx] = d_row[kx];
  if (stride == 1) {
    for (; count >= 4; count -= 4, gradient += 4 * step, x += 4) AddProducts<kWidth, 4>(sums, gradient, step, x);
  }
  for (; count > 0; --count, gradient += step, x += stride) {
    TINYTRAIN_UNROLL for (int kx = 0; kx < kWidth; ++kx) sums[kx] += *gradient * x[kx];
  }
  TINYTRAIN_UNROLL for (int kx = 0; kx < kWidth; ++kx) d_row[kx] = sums[kx];
}
// Row by row of the input, made floats once for all rows of gradients that it meets. Strides up to 2 along a row.
template <int kWidth>
TINYTRAIN_APART void DepthwiseRowsKernel(float* d_kernel, const Channel& channel, const std::int8_t* input,
                                         std::int32_t zero_point) {
  const WindowShape& s = channel.shape;
  float x[2 * kRow + kWidth];
  for (std::int32_t ox0 = 0; ox0 < s.output_width; ox0 += kRow) {
    const std::int32_t count = Smaller(kRow, s.output_width - ox0);
    const std::int32_t length = (count - 1) * s.stride_width + kWidth;
    const Piece inside = ClearOutside(x, ox0 * s.stride_width - s.pad_left, length, s.input_width);
    for (std::int32_t iy = 0; iy < s.input_height; ++iy) {
      const std::int8_t* value = input + (iy * s.input_width + inside.first) * s.input_channels;
      TINYTRAIN_UNROLL_4 for (std::int32_t j = inside.begin; j < inside.end; ++j, value += s.input_channels) {
        x[j] = static_cast<float>(*value - zero_point);
      }
      std::int32_t oy = Smaller((iy + s.pad_top) / s.stride_height, s.output_height - 1);  // the last row that meets this one
      std::int32_t ky = iy + s.pad_top - oy * s.stride_height;
      const float* gradient = channel.At(oy, ox0);
      float* d_row = d_kernel + ky * kWidth;
      for (; oy >= 0 && ky < s.kernel_height; --oy, ky += s.stride_height) {
        AddRowProducts<kWidth>(d_row, gradient, channel.d_output_step, x, s.stride_width, count);
        d_row += s.stride_height * kWidth;
        gradient -= s.output_width * channel.d_output_step;
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

// sum over `count` values that lie `step` apart
float Sum(const float* values, std::int32_t step, std::int32_t count) {
  float sum = 0.0f;
  for (std::int32_t i = 0; i < count; ++i, values += step) sum += *values;
  return sum;
}

TINYTRAIN_APART void DepthwiseChannelKernel(float* d_kernel, float* d_bias, const Channel& channel, const std::int8_t* input,
                                            std::int32_t zero_point) {
  const WindowShape& s = channel.shape;
  switch (s.stride_width <= 2 ? s.kernel_width : 0) {
    case 3: DepthwiseRowsKernel<3>(d_kernel, channel, input, zero_point); break;
    case 5: DepthwiseRowsKernel<5>(d_kernel, channel, input, zero_point); break;
    case 7: DepthwiseRowsKernel<7>(d_kernel, channel, input, zero_point); break;
    default: DepthwiseAnyKernel(d_kernel, channel, input, zero_point);
  }
  if (d_bias != nullptr) *d_bias += Sum(channel.d_output, channel.d_output_step, s.output_height * s.output_width);
}

// y += a * (x - zero_point): the inner loop of all that is not depthwise; zero_point = 0 for weights. Four at a time, since a
// board's -Os would not: 9 instructions a weight instead of 11 on a Cortex-M4F.
inline void AddScaledRow(float* y, float a, const std::int8_t* x, std::int32_t zero_point, std::int32_t count) {
  std::int32_t i = 0;
  for (; i + 4 <= count; i += 4) {
    y[i] += a * static_cast<float>(x[i] - zero_point);
    y[i + 1] += a * static_cast<float>(x[i + 1] - zero_point);
    y[i + 2] += a * static_cast<float>(x[i + 2] - zero_point);
    y[i + 3] += a * static_cast<float>(x[i + 3] - zero_point);
  }
  for (; i < count; ++i) y[i] += a * static_cast<float>(x[i] - zero_point);
}

}  // namespace

// output[oy][ox][o] = bias[o] + sum over ky, kx, i of kernel[o][ky][kx][i] * input[oy * stride + ky - pad][...][i]
// d_input[...][i] = sum over o, ky, kx of kernel[o][ky][kx][i] * d_output[oy][ox][o]
void ConvBackwardInput(float* d_input, const float* d_output, const std::int8_t* kernel, const float* kernel_scales,
                       const WindowShape& s) {
  const std::int32_t kernel_row = s.kernel_width * s.input_channels;
  for (std::int32_t oy = 0; oy < s.output_height; ++oy) {
    const Taps rows = RowTaps(oy, s);
    for (std::int32_t ox = 0; ox < s.output_width; ++ox) {
      const Taps columns = ColumnTaps(ox, s);
      const std::int32_t row_length = (columns.last - columns.first) * s.input_channels;  // taps of a row are contiguous
      for (std::int32_t o = 0; o < s.output_channels; ++o) {
        const float gradient = *d_output++ * kernel_scales[o];
        if (gradient == 0.0f) continue;
        for (std::int32_t ky = rows.first; ky < rows.last; ++ky) {
          const std::int32_t pixel = (rows.origin + ky) * s.input_width + columns.origin + columns.first;
          const std::int8_t* taps = kernel + (o * s.kernel_height + ky) * kernel_row + columns.first * s.input_channels;
          AddScaledRow(d_input + pixel * s.input_channels, gradient, taps, 0, row_length);
        }
      }
    }
  }
}

// d_kernel[o][ky][kx][i] = sum over oy, ox of input[oy * stride + ky - pad][...][i] * d_output[oy][ox][o]
// d_bias[o] = sum over oy, ox of d_output[oy][ox][o]
void ConvBackwardKernel(float* d_kernel, float* d_bias, const float* d_output, const std::int8_t* input,
                        std::int32_t zero_point, const ChannelList& list, const WindowShape& s) {
  const std::int32_t kernel_row = s.kernel_width * s.input_channels;
  for (std::int32_t n = 0; n < list.num_channels; ++n, d_kernel += s.kernel_height * kernel_row) {
    const float* d_pixel = d_output + list.channels[n];
    float d_sum = 0.0f;
    for (std::int32_t oy = 0; oy < s.output_height; ++oy) {
      const Taps rows = RowTaps(oy, s);
      for (std::int32_t ox = 0; ox < s.output_width; ++ox, d_pixel += s.output_channels) {
        const float gradient = *d_pixel;
        if (gradient == 0.0f) continue;
        d_sum += gradient;
        const Taps columns = ColumnTaps(ox, s);
        const std::int32_t row_length = (columns.last - columns.first) * s.input_channels;
        for (std::int32_t ky = rows.first; ky < rows.last; ++ky) {
          const std::int32_t pixel = (rows.origin + ky) * s.input_width + columns.origin + columns.first;
          AddScaledRow(d_kernel + ky * kernel_row + columns.first * s.input_channels, gradient,
                       input + pixel * s.input_channels, zero_point, row_length);
        }
      }
    }
    if (d_bias != nullptr) d_bias[n] += d_sum;
  }
}

namespace {

// A tile of sums in registers, of kTile rows that lie `step` apart; `columns` of it exist.
struct Tile {
  float sums[kTile][kColumns];

  void Load(const float* rows, std::int32_t step, std::int32_t columns) {
    if (columns == kColumns) {
      TINYTRAIN_UNROLL for (std::int32_t r = 0; r < kTile; ++r, rows += step) {
        TINYTRAIN_UNROLL for (std::int32_t c = 0; c < kColumns; ++c) sums[r][c] = rows[c];
      }
      return;
    }
    TINYTRAIN_UNROLL for (std::int32_t r = 0; r < kTile; ++r, rows += step) {
      TINYTRAIN_UNROLL for (std::int32_t c = 0; c < kColumns; ++c) sums[r][c] = c < columns ? rows[c] : 0.0f;
    }
  }
  void Store(float* rows, std::int32_t step, std::int32_t columns) const {
    if (columns == kColumns) {
      TINYTRAIN_UNROLL for (std::int32_t r = 0; r < kTile; ++r, rows += step) {
        TINYTRAIN_UNROLL for (std::int32_t c = 0; c < kColumns; ++c) rows[c] = sums[r][c];
      }
      return;
    }
    TINYTRAIN_UNROLL for (std::int32_t r = 0; r < kTile; ++r, rows += step) {
      TINYTRAIN_UNROLL for (std::int32_t c = 0; c < kColumns; ++c) {
        if (c < columns) rows[c] = sums[r][c];
      }
    }
  }
  // sums[r][c] += gradients[r] * row[c]
  void Add(const float (&gradients)[kTile], const float* row) {
    TINYTRAIN_UNROLL for (std::int32_t c = 0; c < kColumns; ++c) {
      TINYTRAIN_UNROLL for (std::int32_t r = 0; r < kTile; ++r) sums[r][c] += gradients[r] * row[c];
    }
  }
};

// d_input[p][i] += sum over `rows` output channels of d_output[p][o] * scales[o] * panel[o][i]; kTile pixels, `columns` of i
TINYTRAIN_APART void PointwiseInputTile(float* d_input, std::int32_t input_channels, const float* d_output,
                                        std::int32_t output_channels, const float* scales, const float* panel,
                                        std::int32_t rows, std::int32_t columns) {
  Tile tile;
  tile.Load(d_input, input_channels, columns);
  const float* d_0 = d_output;
  const float* d_1 = d_0 + output_channels;
  const float* d_2 = d_1 + output_channels;
  const float* d_3 = d_2 + output_channels;
  for (const float* end = panel + rows * kColumns; panel != end; panel += kColumns) {
    const float scale = *scales++;
    const float gradients[kTile] = {*d_0++ * scale, *d_1++ * scale, *d_2++ * scale, *d_3++ * scale};
    tile.Add(gradients, panel);
  }
  tile.Store(d_input, input_channels, columns);
}

// One output channel: d_input[p][i] += d_output[p] * scale * kernel[i]
TINYTRAIN_APART void PointwiseInputOfOne(float* d_input, const float* d_output, const std::int8_t* kernel, float scale,
                                         std::int32_t num_pixels, std::int32_t input_channels) {
  constexpr std::int32_t kCount = 8;
  std::int32_t i0 = 0;
  for (; i0 + kCount <= input_channels; i0 += kCount) {
    float weights[kCount];
    TINYTRAIN_UNROLL for (std::int32_t i = 0; i < kCount; ++i) weights[i] = static_cast<float>(kernel[i0 + i]);
    float* d_pixel = d_input + i0;
    for (std::int32_t p = 0; p < num_pixels; ++p, d_pixel += input_channels) {
      const float gradient = d_output[p] * scale;
      if (gradient == 0.0f) continue;
      TINYTRAIN_UNROLL for (std::int32_t i = 0; i < kCount; ++i) d_pixel[i] += gradient * weights[i];
    }
  }
  if (i0 == input_channels) return;
  for (std::int32_t p = 0; p < num_pixels; ++p) {
    AddScaledRow(d_input + p * input_channels + i0, d_output[p] * scale, kernel + i0, 0, input_channels - i0);
  }
}

// d_kernel[n][i] += sum over `rows` pixels of d_output[p][channels[n]] * panel[p][i]; kTile channels, `columns` of i
TINYTRAIN_APART void PointwiseKernelTile(float* d_kernel, std::int32_t input_channels, const float* d_output,
                                         std::int32_t output_channels, const std::uint16_t* channels, const float* panel,
                                         std::int32_t rows, std::int32_t columns) {
  Tile tile;
  tile.Load(d_kernel, input_channels, columns);
  const float* d_0 = d_output + channels[0];
  const float* d_1 = d_output + channels[1];
  const float* d_2 = d_output + channels[2];
  const float* d_3 = d_output + channels[3];
  for (const float* end = panel + rows * kColumns; panel != end; panel += kColumns) {
    const float gradients[kTile] = {*d_0, *d_1, *d_2, *d_3};
    d_0 += output_channels;
    d_1 += output_channels;
    d_2 += output_channels;
    d_3 += output_channels;
    tile.Add(gradients, panel);
  }
  tile.Store(d_kernel, input_channels, columns);
}

// One channel: d_kernel[i] += sum over p of d_output[p * step] * (input[p][i] - zero_point)
TINYTRAIN_APART void PointwiseKernelOfOne(float* d_kernel, const float* d_output, std::int32_t step, const std::int8_t* input,
                                          std::int32_t zero_point, std::int32_t num_pixels, std::int32_t input_channels) {
  constexpr std::int32_t kCount = 8;
  for (std::int32_t i0 = 0; i0 < input_channels; i0 += kCount) {
    const std::int32_t count = Smaller(kCount, input_channels - i0);
    const std::int8_t* pixel = input + i0;
    const float* d_pixel = d_output;
    float sums[kCount] = {};
    TINYTRAIN_UNROLL for (std::int32_t i = 0; i < kCount; ++i) sums[i] = i < count ? d_kernel[i0 + i] : 0.0f;
    for (std::int32_t p = 0; p < num_pixels; ++p, pixel += input_channels, d_pixel += step) {
      const float gradient = *d_pixel;
      if (gradient == 0.0f) continue;
      if (count == kCount) {
        TINYTRAIN_UNROLL for (std::int32_t i = 0; i < kCount; ++i) {
          sums[i] += gradient * static_cast<float>(pixel[i] - zero_point);
        }
      } else {
        for (std::int32_t i = 0; i < count; ++i) sums[i] += gradient * static_cast<float>(pixel[i] - zero_point);
      }
    }
    TINYTRAIN_UNROLL for (std::int32_t i = 0; i < kCount; ++i) {
      if (i < count) d_kernel[i0 + i] = sums[i];
    }
  }
}

// d_input[p] += sum over `rows` output channels of d_output[p][o] * weights[o], kCount pixels
template <int kCount>
inline void PlaneTile(float* d_input, const float* d_output, std::int32_t output_channels, const float* weights,
                      std::int32_t rows) {
  float sums[kCount];
  for (int p = 0; p < kCount; ++p) sums[p] = d_input[p];
  const float* d_0 = d_output;
  const float* d_1 = kCount > 1 ? d_0 + output_channels : nullptr;
  const float* d_2 = kCount > 1 ? d_1 + output_channels : nullptr;
  const float* d_3 = kCount > 1 ? d_2 + output_channels : nullptr;
  for (const float* end = weights + rows; weights != end; ++weights) {
    sums[0] += *d_0++ * *weights;
    if (kCount == 1) continue;
    sums[kCount > 1 ? 1 : 0] += *d_1++ * *weights;
    sums[kCount > 1 ? 2 : 0] += *d_2++ * *weights;
    sums[kCount > 1 ? 3 : 0] += *d_3++ * *weights;
  }
  for (int p = 0; p < kCount; ++p) d_input[p] = sums[p];
}

}  // namespace

// output[p][o] = bias[o] + sum over i of kernel[o][i] * input[p][i]
// d_input[p][i] = sum over o of kernel[o][i] * d_output[p][o]
void PointwiseBackwardInput(float* d_input, const float* d_output, const std::int8_t* kernel, const float* kernel_scales,
                            std::int32_t num_pixels, std::int32_t input_channels, std::int32_t output_channels) {
  if (output_channels == 1) {
    PointwiseInputOfOne(d_input, d_output, kernel, *kernel_scales, num_pixels, input_channels);
    return;
  }
  const std::int32_t tiled_pixels = num_pixels - num_pixels % kTile;
  float panel[kPanel * kColumns];
  for (std::int32_t o0 = 0; o0 < output_channels && tiled_pixels > 0; o0 += kPanel) {
    const std::int32_t rows = Smaller(kPanel, output_channels - o0);
    for (std::int32_t i0 = 0; i0 < input_channels; i0 += kColumns) {
      const std::int32_t columns = Smaller(kColumns, input_channels - i0);
      FillPanel(panel, kernel + o0 * input_channels + i0, input_channels, 0, rows, columns);
      for (std::int32_t p = 0; p < tiled_pixels; p += kTile) {
        PointwiseInputTile(d_input + p * input_channels + i0, input_channels, d_output + p * output_channels + o0,
                           output_channels, kernel_scales + o0, panel, rows, columns);
      }
    }
  }
  for (std::int32_t p = tiled_pixels; p < num_pixels; ++p) {
    for (std::int32_t o = 0; o < output_channels; ++o) {
      const float gradient = d_output[p * output_channels + o] * kernel_scales[o];
      if (gradient == 0.0f) continue;
      AddScaledRow(d_input + p * input_channels, gradient, kernel + o * input_channels, 0, input_channels);
    }
  }
}

// d_kernel[o][i] = sum over p of input[p][i] * d_output[p][o];  d_bias[o] = sum over p of d_output[p][o]
void PointwiseBackwardKernel(float* d_kernel, float* d_bias, const float* d_output, const std::int8_t* input,
                             std::int32_t zero_point, const ChannelList& list, std::int32_t num_pixels,
                             std::int32_t input_channels, std::int32_t output_channels) {
  const std::int32_t tiled = list.num_channels - list.num_channels % kTile;
  float panel[kPanel * kColumns];
  for (std::int32_t i0 = 0; i0 < input_channels && tiled > 0; i0 += kColumns) {
    const std::int32_t columns = Smaller(kColumns, input_channels - i0);
    for (std::int32_t p0 = 0; p0 < num_pixels; p0 += kPanel) {
      const std::int32_t rows = Smaller(kPanel, num_pixels - p0);
      FillPanel(panel, input + p0 * input_channels + i0, input_channels, zero_point, rows, columns);
      for (std::int32_t n = 0; n < tiled; n += kTile) {
        PointwiseKernelTile(d_kernel + n * input_channels + i0, input_channels, d_output + p0 * output_channels,
                            output_channels, list.channels + n, panel, rows, columns);
      }
    }
  }
  for (std::int32_t n = 0; n < list.num_channels; ++n) {
    const float* d_channel = d_output + list.channels[n];
    if (n >= tiled) {
      PointwiseKernelOfOne(d_kernel + n * input_channels, d_channel, output_channels, input, zero_point, num_pixels,
                           input_channels);
    }
    if (d_bias != nullptr) d_bias[n] += Sum(d_channel, output_channels, num_pixels);
  }
}

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

void ScaleChannels(float* d_output, const float* scales, std::int32_t num_pixels, std::int32_t num_channels) {
  for (std::int32_t p = 0; p < num_pixels; ++p, d_output += num_channels) {
    for (std::int32_t c = 0; c < num_channels; ++c) d_output[c] *= scales[c];
  }
}

// d_input[p][channel] = sum over o of kernel[o][channel] * d_output[p][o]
void PointwiseBackwardPlane(float* d_input, const float* d_output, const std::int8_t* kernel, std::int32_t channel,
                            std::int32_t num_pixels, std::int32_t input_channels, std::int32_t output_channels) {
  float weights[kPanel];
  std::memset(d_input, 0, static_cast<std::size_t>(num_pixels) * sizeof(float));
  for (std::int32_t o0 = 0; o0 < output_channels; o0 += kPanel) {
    const std::int32_t rows = Smaller(kPanel, output_channels - o0);
    const std::int8_t* column = kernel + o0 * input_channels + channel;
    for (std::int32_t o = 0; o < rows; ++o) weights[o] = static_cast<float>(column[o * input_channels]);
    const float* d_pixel = d_output + o0;
    std::int32_t p = 0;
    for (; p + kTile <= num_pixels; p += kTile, d_pixel += kTile * output_channels) {
      PlaneTile<kTile>(d_input + p, d_pixel, output_channels, weights, rows);
    }
    for (; p < num_pixels; ++p, d_pixel += output_channels) PlaneTile<1>(d_input + p, d_pixel, output_channels, weights, rows);
  }
}

// output[oy][ox][c] = 1 / n * sum over the n taps inside of input[oy * stride + ky - pad][...][c]
// d_input[...][c] = sum over windows of d_output[oy][ox][c] / n
void AveragePoolBackward(float* d_input, const float* d_output, const WindowShape& s) {
  const std::int32_t num_channels = s.output_channels;
  for (std::int32_t oy = 0; oy < s.output_height; ++oy) {
    const Taps rows = RowTaps(oy, s);
    for (std::int32_t ox = 0; ox < s.output_width; ++ox, d_output += num_channels) {
      const Taps columns = ColumnTaps(ox, s);
      const std::int32_t num_taps = (rows.last - rows.first) * (columns.last - columns.first);
      const float weight = 1.0f / static_cast<float>(num_taps);
      for (std::int32_t ky = rows.first; ky < rows.last; ++ky) {
        for (std::int32_t kx = columns.first; kx < columns.last; ++kx) {
          float* d_pixel = d_input + ((rows.origin + ky) * s.input_width + columns.origin + kx) * num_channels;
          for (std::int32_t c = 0; c < num_channels; ++c) d_pixel[c] += weight * d_output[c];
        }
      }
    }
  }
}

// output = input;  d_input = d_output
void IdentityBackward(float* d_input, const float* d_output, bool accumulate, std::size_t num_elements) {
  if (accumulate) {
    for (std::size_t i = 0; i < num_elements; ++i) d_input[i] += d_output[i];
  } else if (d_input != d_output) {
    std::memcpy(d_input, d_output, num_elements * sizeof(float));
  }
}

// output = clamp(input, lower, upper);  d_input = d_output where lower < output < upper, else 0
void ActivationBackward(float* d_output, const std::int8_t* output, std::int32_t lower, std::int32_t upper,
                        std::size_t num_elements) {
  for (std::size_t i = 0; i < num_elements; ++i) {
    if (output[i] <= lower || output[i] >= upper) d_output[i] = 0.0f;
  }
}

void ActivationBackwardPlane(float* d_output, const std::int8_t* output, std::int32_t lower, std::int32_t upper,
                             std::int32_t channel, std::int32_t num_pixels, std::int32_t num_channels) {
  for (std::int32_t p = 0; p < num_pixels; ++p) {
    const std::int8_t value = output[p * num_channels + channel];
    if (value <= lower || value >= upper) d_output[p] = 0.0f;
  }
}

}  // namespace tinytrain
