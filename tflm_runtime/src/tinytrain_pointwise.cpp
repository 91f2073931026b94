#include "tinytrain_strict_float.h"

#include "tinytrain_kernels.h"

#include <cstring>

#include "tinytrain_fast.h"

namespace tinytrain {
namespace {

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

}  // namespace tinytrain
