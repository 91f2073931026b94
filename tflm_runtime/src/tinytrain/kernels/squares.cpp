#include "tinytrain/numerics/strict_float.h"

#include "tinytrain/kernels/squares.h"

#include "tinytrain/kernels/fast.h"

namespace tinytrain {
namespace {

constexpr std::int32_t kMostPixels = 64, kMostTaps = 64;

// A window of kWidth moves by kStride over kSide pixels, with "same" padding: kSide / kStride outputs, rounded up.
template <int kWidth, int kSide, int kStride>
struct Square {
  static constexpr int kPad = (kWidth - 1) / 2, kOutput = (kSide + kStride - 1) / kStride;
  static constexpr int kTaps = kWidth * kWidth, kOutputs = kOutput * kOutput;

  // Along one axis: the output index that meets input index i at tap k; -1 if none does.
  static constexpr int OutputAt(int i, int k) {
    return i + kPad < k || (i + kPad - k) % kStride != 0 || i + kPad - k >= kStride * kOutput ? -1 : (i + kPad - k) / kStride;
  }
};

// 256 * stride + 16 * width + side of a shape as above; 0: it is another.
std::int32_t CaseOf(const WindowShape& s) {
  const std::int32_t side = s.input_width, width = s.kernel_width, stride = s.stride_width, pad = (width - 1) / 2;
  const std::int32_t output = stride == 1 ? side : (side + 1) / 2;
  const bool fits = s.input_height == side && s.kernel_height == width && s.stride_height == stride && s.pad_left == pad &&
                    s.pad_top == pad && s.output_height == output && s.output_width == output && stride <= 2 && side <= 8 &&
                    width <= 8;
  return fits ? 256 * stride + 16 * width + side : 0;
}

// The smallest ones, without a loop: values that are used more than once stay in registers.

template <int kCount>
inline void LoadAll(float (&to)[kCount], Plane<const float> from) {
  const float* value = from.first;
  TINYTRAIN_UNROLL for (int i = 0; i < kCount; ++i, value += from.step) {
    TINYTRAIN_ONE_POINTER(value);
    to[i] = *value;
  }
}

// d_input[iy][ix] += sum over ky, kx of d_output[oy][ox] * kernel[ky][kx] * scale
template <int kWidth, int kSide, int kStride>
TINYTRAIN_APART void TinyInput(Plane<float> d_input, Plane<const float> d_output, Plane<const std::int8_t> kernel, float scale,
                               const WindowShape& /*shape*/) {
  using S = Square<kWidth, kSide, kStride>;
  float gradients[S::kOutputs], taps[S::kTaps];
  LoadAll(gradients, d_output);
  const std::int8_t* tap = kernel.first;
  const std::int32_t tap_step = kernel.step, step = d_input.step;
  TINYTRAIN_UNROLL for (int k = 0; k < S::kTaps; ++k, tap += tap_step) {
    TINYTRAIN_ONE_POINTER(tap);
    taps[k] = static_cast<float>(*tap) * scale;
  }
  float* d_pixel = d_input.first;
  TINYTRAIN_UNROLL for (int iy = 0; iy < kSide; ++iy) {
    TINYTRAIN_UNROLL for (int ix = 0; ix < kSide; ++ix, d_pixel += step) {
      TINYTRAIN_ONE_POINTER(d_pixel);
      float sum = *d_pixel;
      TINYTRAIN_UNROLL for (int ky = 0; ky < kWidth; ++ky) {
        TINYTRAIN_UNROLL for (int kx = 0; kx < kWidth; ++kx) {
          const int oy = S::OutputAt(iy, ky), ox = S::OutputAt(ix, kx);
          if (oy >= 0 && ox >= 0) sum += gradients[oy * S::kOutput + ox] * taps[ky * kWidth + kx];
        }
      }
      *d_pixel = sum;
    }
  }
}

// d_kernel[ky][kx] += sum over iy, ix of d_output[oy][ox] * (input[iy][ix] - zero_point)
template <int kWidth, int kSide, int kStride>
TINYTRAIN_APART void TinyKernel(float* d_kernel, Plane<const float> d_output, Plane<const std::int8_t> input,
                                std::int32_t zero_point, const WindowShape& /*shape*/) {
  using S = Square<kWidth, kSide, kStride>;
  float gradients[S::kOutputs], sums[S::kTaps];
  LoadAll(gradients, d_output);
  TINYTRAIN_UNROLL for (int k = 0; k < S::kTaps; ++k) sums[k] = d_kernel[k];
  const std::int8_t* pixel = input.first;
  const std::int32_t step = input.step;
  TINYTRAIN_UNROLL for (int iy = 0; iy < kSide; ++iy) {
    TINYTRAIN_UNROLL for (int ix = 0; ix < kSide; ++ix) {
      const int apart = (iy * kSide + ix) % 2;  // from one pixel to the next costs nothing, beyond it an addition
      const float x = static_cast<float>(pixel[apart * step] - zero_point);
      if (apart == 1) pixel += 2 * step;
      TINYTRAIN_ONE_POINTER(pixel);
      TINYTRAIN_UNROLL for (int ky = 0; ky < kWidth; ++ky) {
        TINYTRAIN_UNROLL for (int kx = 0; kx < kWidth; ++kx) {
          const int oy = S::OutputAt(iy, ky), ox = S::OutputAt(ix, kx);
          if (oy >= 0 && ox >= 0) sums[ky * kWidth + kx] += gradients[oy * S::kOutput + ox] * x;
        }
      }
    }
  }
  TINYTRAIN_UNROLL for (int k = 0; k < S::kTaps; ++k) d_kernel[k] = sums[k];
}

// The others: rows are a loop, columns are not. Pixels are contiguous.

// d_input[iy][ix] += sum over ky, ox of d_output[oy][ox] * taps[ky][kx]
template <int kWidth, int kSide, int kStride>
TINYTRAIN_APART void RowsInput(Plane<float> d_input, const float* d_output, const float* taps) {
  using S = Square<kWidth, kSide, kStride>;
  float* d_row = d_input.first;
  for (int iy = 0; iy < kSide; ++iy) {
    const int above = iy + S::kPad - kStride * (S::kOutput - 1);  // the tap that meets the last output row, if there is one
    const int first = above >= 0 ? above : (iy + S::kPad) % kStride, oy = (iy + S::kPad - first) / kStride;
    const int rows = Smaller(oy + 1, (kWidth - first + kStride - 1) / kStride);
    const float* tap = taps + first * kWidth;
    const float* row = d_output + oy * S::kOutput;
    float sums[kSide];
    LoadAll(sums, {d_row, d_input.step});
    for (int left = rows; left > 0; --left, tap += kStride * kWidth, row -= S::kOutput) {
      TINYTRAIN_UNROLL for (int j = 0; j < S::kOutput; ++j) {
        const float gradient = row[j];
        TINYTRAIN_UNROLL for (int i = 0; i < kSide; ++i) {
          const int kx = i + S::kPad - j * kStride;
          if (kx >= 0 && kx < kWidth) sums[i] += gradient * tap[kx];
        }
      }
    }
    TINYTRAIN_UNROLL for (int i = 0; i < kSide; ++i, d_row += d_input.step) {
      TINYTRAIN_ONE_POINTER(d_row);
      *d_row = sums[i];
    }
  }
}

// d_kernel[ky][kx] += sum over oy, ox of d_output[oy][ox] * input[iy][ix]
template <int kWidth, int kSide, int kStride>
TINYTRAIN_APART void RowsKernel(float* d_kernel, const float* d_output, const float* input) {
  using S = Square<kWidth, kSide, kStride>;
  for (int ky = 0; ky < kWidth; ++ky, d_kernel += kWidth) {
    const int first = ky < S::kPad ? (S::kPad - ky + kStride - 1) / kStride : 0;
    const int rows = Smaller(S::kOutput, (kSide - 1 + S::kPad - ky) / kStride + 1) - first;
    const float* row = d_output + first * S::kOutput;
    const float* x = input + (first * kStride + ky - S::kPad) * kSide;
    float sums[kWidth];
    TINYTRAIN_UNROLL for (int kx = 0; kx < kWidth; ++kx) sums[kx] = d_kernel[kx];
    for (int left = rows; left > 0; --left, row += S::kOutput, x += kStride * kSide) {
      TINYTRAIN_UNROLL for (int j = 0; j < S::kOutput; ++j) {
        const float gradient = row[j];
        TINYTRAIN_UNROLL for (int kx = 0; kx < kWidth; ++kx) {
          const int i = j * kStride + kx - S::kPad;
          if (i >= 0 && i < kSide) sums[kx] += gradient * x[i];
        }
      }
    }
    TINYTRAIN_UNROLL for (int kx = 0; kx < kWidth; ++kx) d_kernel[kx] = sums[kx];
  }
}

using InputFunction = void (*)(Plane<float> d_input, const float* d_output, const float* taps);
using KernelFunction = void (*)(float* d_kernel, const float* d_output, const float* input);

// Gradients and inputs whose pixels are not contiguous are copied first.

TINYTRAIN_APART void Gather(float* to, Plane<const float> from, std::int32_t count) {
  for (; count >= kColumns; count -= kColumns, from.first += kColumns * from.step) {
    float run[kColumns];
    LoadAll(run, from);
    StoreRun<0>(to, run);
  }
  for (; count > 0; --count, from.first += from.step) *to++ = *from.first;
}

TINYTRAIN_APART void PackInput(InputFunction function, Plane<float> d_input, Plane<const float> d_output,
                               Plane<const std::int8_t> kernel, float scale, const WindowShape& s) {
  float taps[kMostTaps], gradients[kMostPixels];
  FillFloats(taps, kernel.first, kernel.step, ScaledWeight{scale}, s.kernel_height * s.kernel_width);
  if (d_output.step == 1) return function(d_input, d_output.first, taps);
  Gather(gradients, d_output, s.output_height * s.output_width);
  function(d_input, gradients, taps);
}

TINYTRAIN_APART void PackKernel(KernelFunction function, float* d_kernel, Plane<const float> d_output,
                                Plane<const std::int8_t> input, std::int32_t zero_point, const WindowShape& s) {
  float x[kMostPixels], gradients[kMostPixels];
  FillFloats(x, input.first, input.step, Pixel{zero_point}, s.input_height * s.input_width);
  if (d_output.step == 1) return function(d_kernel, d_output.first, x);
  Gather(gradients, d_output, s.output_height * s.output_width);
  function(d_kernel, gradients, x);
}

template <InputFunction kFunction>
void PackedInput(Plane<float> d_input, Plane<const float> d_output, Plane<const std::int8_t> kernel, float scale,
                 const WindowShape& shape) {
  PackInput(kFunction, d_input, d_output, kernel, scale, shape);
}

template <KernelFunction kFunction>
void PackedKernel(float* d_kernel, Plane<const float> d_output, Plane<const std::int8_t> input, std::int32_t zero_point,
                  const WindowShape& shape) {
  PackKernel(kFunction, d_kernel, d_output, input, zero_point, shape);
}

template <int kWidth, int kSide, int kStride>
constexpr ChannelCode kTiny = {&TinyInput<kWidth, kSide, kStride>, &TinyKernel<kWidth, kSide, kStride>};
template <int kWidth, int kSide, int kStride>
constexpr ChannelCode kRows = {&PackedInput<&RowsInput<kWidth, kSide, kStride>>,
                               &PackedKernel<&RowsKernel<kWidth, kSide, kStride>>};

}  // namespace

const ChannelCode* SquareCode(const WindowShape& shape) {
  switch (CaseOf(shape)) {
    case 0x133: return &kTiny<3, 3, 1>;
    case 0x134: return &kTiny<3, 4, 1>;
    case 0x136: return &kRows<3, 6, 1>;
    case 0x138: return &kRows<3, 8, 1>;
    case 0x154: return &kRows<5, 4, 1>;
    case 0x158: return &kRows<5, 8, 1>;
    case 0x174: return &kRows<7, 4, 1>;
    case 0x178: return &kRows<7, 8, 1>;
    case 0x246: return &kTiny<4, 6, 2>;
    case 0x268: return &kRows<6, 8, 2>;
    case 0x288: return &kRows<8, 8, 2>;
    default: return nullptr;
  }
}

}  // namespace tinytrain
