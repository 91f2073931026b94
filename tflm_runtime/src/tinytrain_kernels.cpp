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

// On a Cortex-M4F neighbours in memory are loaded by one instruction, a cycle each and one more, where apart each takes two. It
// wants registers that follow each other, so these are named.
#if defined(__arm__) && defined(__ARM_FP) && defined(__GNUC__) && !defined(__clang__)
#define TINYTRAIN_RUNS_AT_ONCE 1
#else
#define TINYTRAIN_RUNS_AT_ONCE 0
#endif

namespace tinytrain {
namespace {

// A Cortex-M4F has 32 float registers, and a multiply-accumulate is two instructions without contraction. What is above that is
// loads, so each float loaded should serve a tile's side of them: 2 x 8 sums, 2 + 8 operands. int8 operands are made floats
// once for a panel of kPanel rows (pixels, or output channels), which lies on the stack.
constexpr std::int32_t kTile = 2;
constexpr std::int32_t kColumns = 8;
constexpr std::int32_t kPanel = 32;
constexpr std::int32_t kRow = 32;  // of a depthwise convolution: pixels of a row at a time

std::int32_t Smaller(std::int32_t a, std::int32_t b) { return a < b ? a : b; }

// kColumns floats that follow each other, `from` behind them. Two loads that are in use together want different kFirst.
template <int kFirst>
inline void LoadRun(float (&to)[kColumns], const float*& from) {
#if TINYTRAIN_RUNS_AT_ONCE
  if (kFirst == 0) {
    register float s0 asm("s0"), s1 asm("s1"), s2 asm("s2"), s3 asm("s3"), s4 asm("s4"), s5 asm("s5"), s6 asm("s6"), s7 asm("s7");
    asm("vldmia %0!, {s0-s7}"
        : "+r"(from), "=t"(s0), "=t"(s1), "=t"(s2), "=t"(s3), "=t"(s4), "=t"(s5), "=t"(s6), "=t"(s7)
        : "m"(*reinterpret_cast<const float(*)[kColumns]>(from)));
    to[0] = s0, to[1] = s1, to[2] = s2, to[3] = s3, to[4] = s4, to[5] = s5, to[6] = s6, to[7] = s7;
  } else {
    register float s8 asm("s8"), s9 asm("s9"), s10 asm("s10"), s11 asm("s11"), s12 asm("s12"), s13 asm("s13"), s14 asm("s14"),
        s15 asm("s15");
    asm("vldmia %0!, {s8-s15}"
        : "+r"(from), "=t"(s8), "=t"(s9), "=t"(s10), "=t"(s11), "=t"(s12), "=t"(s13), "=t"(s14), "=t"(s15)
        : "m"(*reinterpret_cast<const float(*)[kColumns]>(from)));
    to[0] = s8, to[1] = s9, to[2] = s10, to[3] = s11, to[4] = s12, to[5] = s13, to[6] = s14, to[7] = s15;
  }
#else
  for (std::int32_t c = 0; c < kColumns; ++c) to[c] = *from++;
#endif
}

// The inverse; `to` is behind them then.
inline void StoreRun(float*& to, const float (&from)[kColumns]) {
#if TINYTRAIN_RUNS_AT_ONCE
  register float s0 asm("s0") = from[0], s1 asm("s1") = from[1], s2 asm("s2") = from[2], s3 asm("s3") = from[3],
                 s4 asm("s4") = from[4], s5 asm("s5") = from[5], s6 asm("s6") = from[6], s7 asm("s7") = from[7];
  asm("vstmia %0!, {s0-s7}"
      : "+r"(to), "=m"(*reinterpret_cast<float(*)[kColumns]>(to))
      : "t"(s0), "t"(s1), "t"(s2), "t"(s3), "t"(s4), "t"(s5), "t"(s6), "t"(s7));
#else
  for (std::int32_t c = 0; c < kColumns; ++c) *to++ = from[c];
#endif
}

// Of kColumns values that lie `step` apart: x - zero_point
inline void ToFloats(float (&to)[kColumns], const std::int8_t* x, std::int32_t step, std::int32_t zero_point) {
  TINYTRAIN_UNROLL for (std::int32_t c = 0; c < kColumns; ++c) to[c] = static_cast<float>(x[c * step] - zero_point);
}

// panel[r][0..kColumns) = x[r * row_step + c] - zero_point, 0 from column `columns` on
TINYTRAIN_APART void FillPanel(float* panel, const std::int8_t* x, std::int32_t row_step, std::int32_t zero_point,
                               std::int32_t rows, std::int32_t columns) {
  for (const float* end = panel + rows * kColumns; panel != end; x += row_step) {
    if (columns == kColumns) {
      float row[kColumns];
      if (zero_point == 0) {
        ToFloats(row, x, 1, 0);
      } else {
        ToFloats(row, x, 1, zero_point);
      }
      StoreRun(panel, row);
      continue;
    }
    for (std::int32_t c = 0; c < kColumns; ++c) *panel++ = c < columns ? static_cast<float>(x[c] - zero_point) : 0.0f;
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

// kRows rows of sums in registers, `step` apart in memory.
template <int kRows>
struct Tile {
  float sums[kRows][kColumns];

  void Load(const float* rows, std::int32_t step) {
    TINYTRAIN_UNROLL for (std::int32_t r = 0; r < kRows; ++r, rows += step) {
      const float* row = rows;
      LoadRun<0>(sums[r], row);
    }
  }
  void Store(float* rows, std::int32_t step) const {
    TINYTRAIN_UNROLL for (std::int32_t r = 0; r < kRows; ++r, rows += step) {
      float* row = rows;
      StoreRun(row, sums[r]);
    }
  }
  // sums[r][c] += gradients[r] * row[c]
  void Add(const float (&gradients)[kRows], const float (&row)[kColumns]) {
    TINYTRAIN_UNROLL for (std::int32_t r = 0; r < kRows; ++r) {
      TINYTRAIN_UNROLL for (std::int32_t c = 0; c < kColumns; ++c) sums[r][c] += gradients[r] * row[c];
    }
  }
};

// Where a tile lies in memory: at its place or, if fewer than kColumns of its columns exist, in a buffer until this goes.
class TilePlace {
 public:
  TilePlace(float* rows, std::int32_t step, std::int32_t num_rows, std::int32_t columns)
      : rows_(rows), step_(step), num_rows_(num_rows), columns_(columns) {
    if (!IsWhole()) Copy(buffer_, kColumns, rows_, step_);
  }
  ~TilePlace() {
    if (!IsWhole()) Copy(rows_, step_, buffer_, kColumns);
  }
  TilePlace(const TilePlace&) = delete;
  TilePlace& operator=(const TilePlace&) = delete;

  float* rows() { return IsWhole() ? rows_ : buffer_; }
  std::int32_t step() const { return IsWhole() ? step_ : kColumns; }

 private:
  bool IsWhole() const { return columns_ == kColumns; }
  TINYTRAIN_APART void Copy(float* to, std::int32_t to_step, const float* from, std::int32_t from_step) const {
    for (std::int32_t r = 0; r < num_rows_; ++r, to += to_step, from += from_step) {
      for (std::int32_t c = 0; c < columns_; ++c) to[c] = from[c];
    }
  }
  float* rows_;
  std::int32_t step_, num_rows_, columns_;
  float buffer_[kTile * kColumns];
};

// d_input[p][i] += sum over `rows` output channels of d_output[p][o] * scales[o] * panel[o][i]; kRows pixels, kColumns of i
template <int kRows>
TINYTRAIN_APART void PointwiseInputTile(float* d_input, std::int32_t d_input_step, const float* d_output,
                                        std::int32_t output_channels, const float* scales, const float* panel,
                                        std::int32_t rows) {
  Tile<kRows> tile;
  tile.Load(d_input, d_input_step);
  const float* d_last = d_output + (kRows - 1) * output_channels;
  for (const float* end = panel + rows * kColumns; panel != end;) {
    const float scale = *scales++;
    float gradients[kRows], row[kColumns];
    gradients[0] = *d_output++ * scale;
    if (kRows > 1) gradients[kRows - 1] = *d_last++ * scale;
    LoadRun<0>(row, panel);
    tile.Add(gradients, row);
  }
  tile.Store(d_input, d_input_step);
}

// d_kernel[n][i] += sum over `rows` pixels of d_output[p][channels[n]] * panel[p][i]; kTile channels, kColumns of i
TINYTRAIN_APART void PointwiseKernelTile(float* d_kernel, std::int32_t d_kernel_step, const float* d_output,
                                         std::int32_t output_channels, const std::uint16_t* channels, const float* panel,
                                         std::int32_t rows) {
  Tile<kTile> tile;
  tile.Load(d_kernel, d_kernel_step);
  const float* d_0 = d_output + channels[0];
  const float* d_1 = d_output + channels[1];
  for (const float* end = panel + rows * kColumns; panel != end; d_0 += output_channels, d_1 += output_channels) {
    const float gradients[kTile] = {*d_0, *d_1};
    float row[kColumns];
    LoadRun<0>(row, panel);
    tile.Add(gradients, row);
  }
  tile.Store(d_kernel, d_kernel_step);
}

// The gradients of one channel that are not 0, at most kPanel at a time: many are, behind an activation.
struct Gradients {
  struct Entry {
    std::int32_t offset;  // pixel * row_length
    float value;
  };
  Entry entries[kPanel];
  const Entry* end;

  // Of `num_pixels` values that lie `step` apart, each times `scale`.
  void Gather(const float* d_output, std::int32_t step, float scale, std::int32_t first_pixel, std::int32_t num_pixels,
              std::int32_t row_length) {
    Entry* entry = entries;
    const std::int32_t last = Smaller(num_pixels, first_pixel + kPanel);
    d_output += first_pixel * step;
    for (std::int32_t offset = first_pixel * row_length; offset < last * row_length; offset += row_length, d_output += step) {
      const float value = *d_output * scale;
      if (value == 0.0f) continue;
      *entry++ = {offset, value};
    }
    end = entry;
  }
};

// kRuns * kColumns of i: d_input[p][i] += gradients[p] * kernel[i]
template <int kRuns>
inline void AddOuterProduct(float* d_input, const Gradients& gradients, const std::int8_t* kernel) {
  float weights[kRuns][kColumns];
  TINYTRAIN_UNROLL for (int run = 0; run < kRuns; ++run) ToFloats(weights[run], kernel + run * kColumns, 1, 0);
  const Gradients::Entry* const end = gradients.end;
  for (const Gradients::Entry* entry = gradients.entries; entry != end; ++entry) {
    const float gradient = entry->value;
    float* to = d_input + entry->offset;
    const float* from = to;
    TINYTRAIN_UNROLL for (int run = 0; run < kRuns; ++run) {
      float row[kColumns];
      LoadRun<0>(row, from);
      TINYTRAIN_UNROLL for (std::int32_t c = 0; c < kColumns; ++c) row[c] += gradient * weights[run][c];
      StoreRun(to, row);
    }
  }
}

// One output channel: d_input[p][i] += d_output[p] * scale * kernel[i]
TINYTRAIN_APART void PointwiseInputOfOne(float* d_input, const float* d_output, const std::int8_t* kernel, float scale,
                                         std::int32_t num_pixels, std::int32_t input_channels) {
  Gradients gradients;
  for (std::int32_t p = 0; p < num_pixels; p += kPanel) {
    gradients.Gather(d_output, 1, scale, p, num_pixels, input_channels);
    std::int32_t i = 0;
    for (; i + 2 * kColumns <= input_channels; i += 2 * kColumns) AddOuterProduct<2>(d_input + i, gradients, kernel + i);
    for (; i + kColumns <= input_channels; i += kColumns) AddOuterProduct<1>(d_input + i, gradients, kernel + i);
    for (const Gradients::Entry* entry = gradients.entries; entry != gradients.end && i < input_channels; ++entry) {
      AddScaledRow(d_input + entry->offset + i, entry->value, kernel + i, 0, input_channels - i);
    }
  }
}

// One channel: d_kernel[i] += sum over p of d_output[p * step] * (input[p][i] - zero_point)
TINYTRAIN_APART void PointwiseKernelOfOne(float* d_kernel, const float* d_output, std::int32_t step, const std::int8_t* input,
                                          std::int32_t zero_point, std::int32_t num_pixels, std::int32_t input_channels) {
  Gradients gradients;
  for (std::int32_t p = 0; p < num_pixels; p += kPanel) {
    gradients.Gather(d_output, step, 1.0f, p, num_pixels, input_channels);
    std::int32_t i = 0;
    for (; i + kColumns <= input_channels; i += kColumns) {
      float sums[kColumns];
      const float* from = d_kernel + i;
      LoadRun<0>(sums, from);
      const Gradients::Entry* const end = gradients.end;
      for (const Gradients::Entry* entry = gradients.entries; entry != end; ++entry) {
        float x[kColumns];
        ToFloats(x, input + i + entry->offset, 1, zero_point);
        TINYTRAIN_UNROLL for (std::int32_t c = 0; c < kColumns; ++c) sums[c] += entry->value * x[c];
      }
      float* to = d_kernel + i;
      StoreRun(to, sums);
    }
    for (const Gradients::Entry* entry = gradients.entries; entry != gradients.end && i < input_channels; ++entry) {
      AddScaledRow(d_kernel + i, entry->value, input + entry->offset + i, zero_point, input_channels - i);
    }
  }
}

// sum + sum over kColumns of d_pixel[c] * weights[c], in this order
inline float AddProducts(float sum, const float*& d_pixel, const float (&weights)[kColumns]) {
  float gradients[kColumns];
  LoadRun<8>(gradients, d_pixel);
  TINYTRAIN_UNROLL for (std::int32_t c = 0; c < kColumns; ++c) sum += gradients[c] * weights[c];
  return sum;
}

// d_input[p] += sum over `rows` output channels of d_output[p][o] * weights[o], kCount pixels
template <int kCount>
TINYTRAIN_APART void PlaneTile(float* d_input, const float* d_output, std::int32_t output_channels, const float* weights,
                               std::int32_t rows) {
  float sums[kCount];
  const float* d_pixels[kCount];
  TINYTRAIN_UNROLL for (std::int32_t p = 0; p < kCount; ++p, d_output += output_channels) {
    sums[p] = d_input[p];
    d_pixels[p] = d_output;
  }
  std::int32_t o = 0;
  for (; o + kColumns <= rows; o += kColumns) {
    float some[kColumns];
    LoadRun<0>(some, weights);
    TINYTRAIN_UNROLL for (std::int32_t p = 0; p < kCount; ++p) sums[p] = AddProducts(sums[p], d_pixels[p], some);
  }
  for (; o < rows; ++o, ++weights) {
    TINYTRAIN_UNROLL for (std::int32_t p = 0; p < kCount; ++p) sums[p] += *d_pixels[p]++ * *weights;
  }
  TINYTRAIN_UNROLL for (std::int32_t p = 0; p < kCount; ++p) d_input[p] = sums[p];
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
  float panel[kPanel * kColumns];
  for (std::int32_t o0 = 0; o0 < output_channels; o0 += kPanel) {
    const std::int32_t rows = Smaller(kPanel, output_channels - o0);
    for (std::int32_t i0 = 0; i0 < input_channels; i0 += kColumns) {
      const std::int32_t columns = Smaller(kColumns, input_channels - i0);
      FillPanel(panel, kernel + o0 * input_channels + i0, input_channels, 0, rows, columns);
      std::int32_t p = 0;
      for (; p + kTile <= num_pixels; p += kTile) {
        TilePlace place(d_input + p * input_channels + i0, input_channels, kTile, columns);
        PointwiseInputTile<kTile>(place.rows(), place.step(), d_output + p * output_channels + o0, output_channels,
                                  kernel_scales + o0, panel, rows);
      }
      if (p < num_pixels) {
        TilePlace place(d_input + p * input_channels + i0, input_channels, 1, columns);
        PointwiseInputTile<1>(place.rows(), place.step(), d_output + p * output_channels + o0, output_channels,
                              kernel_scales + o0, panel, rows);
      }
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
        TilePlace place(d_kernel + n * input_channels + i0, input_channels, kTile, columns);
        PointwiseKernelTile(place.rows(), place.step(), d_output + p0 * output_channels, output_channels, list.channels + n,
                            panel, rows);
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
  constexpr std::int32_t kPixels = 4, kLongPanel = 3 * kPanel;
  float weights[kLongPanel];
  std::memset(d_input, 0, static_cast<std::size_t>(num_pixels) * sizeof(float));
  for (std::int32_t o0 = 0; o0 < output_channels; o0 += kLongPanel) {
    const std::int32_t rows = Smaller(kLongPanel, output_channels - o0);
    const std::int8_t* column = kernel + o0 * input_channels + channel;
    float* weight = weights;
    std::int32_t o = 0;
    for (; o + kColumns <= rows; o += kColumns, column += kColumns * input_channels) {
      float some[kColumns];
      ToFloats(some, column, input_channels, 0);
      StoreRun(weight, some);
    }
    for (; o < rows; ++o, column += input_channels) *weight++ = static_cast<float>(*column);
    const float* d_pixel = d_output + o0;
    std::int32_t p = 0;
    for (; p + kPixels <= num_pixels; p += kPixels, d_pixel += kPixels * output_channels) {
      PlaneTile<kPixels>(d_input + p, d_pixel, output_channels, weights, rows);
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
