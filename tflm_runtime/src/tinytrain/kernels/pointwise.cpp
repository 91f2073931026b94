#include "tinytrain/numerics/strict_float.h"

#include "tinytrain/kernels/kernels.h"

#include "tinytrain/kernels/fast.h"

namespace tinytrain {
namespace {

// int8 operands become floats once, in a panel of at most kPanelRows x kPanelColumns on the stack. Each row of sums stays in
// registers over the whole panel.
constexpr std::int32_t kPanelRows = 16, kPanelColumns = 2 * kColumns;

// Columns of the panel that begins with column `first`: kPanelColumns, kColumns or, at the end, fewer.
std::int32_t PanelColumns(std::int32_t first, std::int32_t num_columns) {
  return num_columns - first >= kPanelColumns ? kPanelColumns : Smaller(kColumns, num_columns - first);
}

// to[c] = x[c] - zero_point
template <int kRuns>
inline void FillRow(float*& to, const std::int8_t* x, std::int32_t zero_point) {
  TINYTRAIN_UNROLL for (int run = 0; run < kRuns; ++run) {
    float values[kColumns];
    TINYTRAIN_UNROLL for (std::int32_t c = 0; c < kColumns; ++c) {
      values[c] = static_cast<float>(x[run * kColumns + c] - zero_point);
    }
    StoreRun<0>(to, values);
  }
}

// panel[r][0..columns) = x[r][first + c] - zero_point, of `num_rows` rows
TINYTRAIN_APART void FillPanel(float* panel, const std::int8_t* const* x, std::int32_t first, std::int32_t zero_point,
                               std::int32_t num_rows, std::int32_t columns) {
  const float* const end = panel + num_rows * columns;
  if (columns == kPanelColumns && zero_point == 0) {
    while (panel != end) FillRow<2>(panel, *x++ + first, 0);
  } else if (columns == kPanelColumns) {
    while (panel != end) FillRow<2>(panel, *x++ + first, zero_point);
  } else if (columns == kColumns) {
    while (panel != end) FillRow<1>(panel, *x++ + first, zero_point);
  } else {
    for (; panel != end; ++x) {
      for (std::int32_t c = 0; c < columns; ++c) *panel++ = static_cast<float>((*x)[first + c] - zero_point);
    }
  }
}

// int8 operands [num_rows][num_columns]: contiguous rows, or each at its address in `rows`.
struct Operands {
  const std::int8_t* first;
  const std::int8_t* const* rows;  // nullptr: they are contiguous and begin at `first`
  std::int32_t zero_point;
  std::int32_t num_rows;
  std::int32_t num_columns;

  const std::int8_t* Row(std::int32_t r) const { return rows == nullptr ? first + r * num_columns : rows[r]; }
};

// A matrix of gradients: row r, column k at values[place(r) * row_step + k * step].
struct Gradients {
  const float* values;
  const std::uint16_t* places;  // nullptr: 0, 1, 2, ...
  std::int32_t num_rows;
  std::int32_t row_step;
  std::int32_t step;

  const float* Row(std::int32_t r) const { return values + (places == nullptr ? r : places[r]) * row_step; }
};

// sums[r][c] += sum over `rows` k of gradients[r][k] * panel[k][c], `sums_step` from one r to the next; kRuns * kColumns of c.
// kSparse: many gradients are 0, as an activation leaves them, and are skipped. kTogether: gradients.step is 1.
template <int kRuns, bool kSparse, bool kTogether>
TINYTRAIN_APART void AddPanel(float* sums, std::int32_t sums_step, const Gradients& gradients, const float* panel,
                              std::int32_t rows) {
  const float* const end = panel + rows * kRuns * kColumns;
  const std::int32_t step = kTogether ? 1 : gradients.step;
  for (std::int32_t r = 0; r < gradients.num_rows; ++r, sums += sums_step) {
    const float* gradient = gradients.Row(r);
    float row_sums[kRuns][kColumns];
    const float* from = sums;
    LoadRun<16>(row_sums[0], from);
    if (kRuns == 2) LoadRun<24>(row_sums[kRuns - 1], from);
    for (const float* row = panel; row != end; gradient += step) {
      const float value = *gradient;
      if (kSparse && value == 0.0f) {
        row += kRuns * kColumns;
        continue;
      }
      TINYTRAIN_UNROLL for (int run = 0; run < kRuns; ++run) {
        float x[kColumns];
        LoadRun<8>(x, row);
        TINYTRAIN_UNROLL for (std::int32_t c = 0; c < kColumns; ++c) row_sums[run][c] += value * x[c];
      }
    }
    float* to = sums;
    StoreRun<16>(to, row_sums[0]);
    if (kRuns == 2) StoreRun<24>(to, row_sums[kRuns - 1]);
  }
}

// The same for fewer than kColumns of c.
TINYTRAIN_APART void AddNarrowPanel(float* sums, std::int32_t sums_step, const Gradients& gradients, const float* panel,
                                    std::int32_t rows, std::int32_t columns) {
  for (std::int32_t r = 0; r < gradients.num_rows; ++r, sums += sums_step) {
    const float* gradient = gradients.Row(r);
    const float* row = panel;
    for (std::int32_t k = 0; k < rows; ++k, gradient += gradients.step) {
      for (std::int32_t c = 0; c < columns; ++c) sums[c] += *gradient * *row++;
    }
  }
}

using PanelFunction = void (*)(float* sums, std::int32_t sums_step, const Gradients& gradients, const float* panel,
                               std::int32_t rows);

// sums[r][c] += sum over k of gradients[r][k] * (x[k][c] - zero_point); by `add_panel` where all of a panel's columns exist
TINYTRAIN_APART void AddProduct(PanelFunction add_panel, float* sums, const Gradients& gradients, const Operands& x) {
  const std::int32_t num_columns = x.num_columns;
  float panel[kPanelRows * kPanelColumns];
  const std::int8_t* rows[kPanelRows];
  Gradients some = gradients;
  for (std::int32_t k0 = 0; k0 < x.num_rows; k0 += kPanelRows, some.values += kPanelRows * gradients.step) {
    const std::int32_t num_rows = Smaller(kPanelRows, x.num_rows - k0);
    for (std::int32_t k = 0; k < num_rows; ++k) rows[k] = x.Row(k0 + k);
    for (std::int32_t c0 = 0, columns = 0; c0 < num_columns; c0 += columns) {
      columns = PanelColumns(c0, num_columns);
      FillPanel(panel, rows, c0, x.zero_point, num_rows, columns);
      if (columns == kPanelColumns) {
        add_panel(sums + c0, num_columns, some, panel, num_rows);
      } else if (columns == kColumns) {
        AddPanel<1, false, false>(sums + c0, num_columns, some, panel, num_rows);
      } else {
        AddNarrowPanel(sums + c0, num_columns, some, panel, num_rows, columns);
      }
    }
  }
}

// d_bias[r] += sum over k of gradients[r][k]
void AddBias(float* d_bias, const Gradients& gradients, std::int32_t num_rows) {
  for (std::int32_t r = 0; r < gradients.num_rows; ++r) d_bias[r] += Sum(gradients.Row(r), gradients.step, num_rows);
}

// d_input[p] = (first ? 0 : d_input[p]) + sum over `rows` output channels of d_output[p][o] * weights[o], kCount pixels
template <int kCount>
TINYTRAIN_APART void PlaneTile(float* d_input, const float* d_output, std::int32_t output_channels, const float* weights,
                               std::int32_t rows, bool first) {
  float sums[kCount];
  const float* d_pixels[kCount];
  TINYTRAIN_UNROLL for (std::int32_t p = 0; p < kCount; ++p, d_output += output_channels) {
    sums[p] = first ? 0.0f : d_input[p];
    d_pixels[p] = d_output;
  }
  for (; rows >= kColumns; rows -= kColumns) {
    float some[kColumns];
    LoadRun<0>(some, weights);
    TINYTRAIN_UNROLL for (std::int32_t p = 0; p < kCount; ++p) {
      float gradients[kColumns];
      LoadRun<8>(gradients, d_pixels[p]);
      TINYTRAIN_UNROLL for (std::int32_t c = 0; c < kColumns; ++c) sums[p] += gradients[c] * some[c];
    }
  }
  for (; rows > 0; --rows, ++weights) {
    TINYTRAIN_UNROLL for (std::int32_t p = 0; p < kCount; ++p) sums[p] += *d_pixels[p]++ * *weights;
  }
  TINYTRAIN_UNROLL for (std::int32_t p = 0; p < kCount; ++p) d_input[p] = sums[p];
}

}  // namespace

// output[p][o] = bias[o] + sum over i of kernel[o][i] * input[p][i]
// d_input[p][i] = sum over o of kernel[o][i] * d_output[p][o]
void PointwiseBackwardInput(float* d_input, float* d_output, const std::int8_t* kernel, const float* kernel_scales,
                            std::int32_t num_pixels, std::int32_t input_channels, std::int32_t output_channels) {
  ScaleChannels(d_output, kernel_scales, num_pixels, output_channels);
  const Gradients gradients = {d_output, nullptr, num_pixels, output_channels, 1};
  AddProduct(&AddPanel<2, false, true>, d_input, gradients, {kernel, nullptr, 0, output_channels, input_channels});
}

void PointwiseBackwardInputPlanes(float* d_input, float* d_output, const std::int8_t* const* kernel_rows,
                                  const float* kernel_scales, std::int32_t num_pixels, std::int32_t input_channels,
                                  std::int32_t num_planes) {
  float* plane = d_output;
  for (std::int32_t o = 0; o < num_planes; ++o) {
    const float scale = kernel_scales[o];
    TINYTRAIN_UNROLL_4 for (std::int32_t p = 0; p < num_pixels; ++p)* plane++ *= scale;
  }
  const Gradients gradients = {d_output, nullptr, num_pixels, 1, num_pixels};
  AddProduct(&AddPanel<2, true, false>, d_input, gradients, {nullptr, kernel_rows, 0, num_planes, input_channels});
}

// d_kernel[o][i] = sum over p of input[p][i] * d_output[p][o];  d_bias[o] = sum over p of d_output[p][o]
void PointwiseBackwardKernel(float* d_kernel, float* d_bias, const float* d_output, const std::int8_t* input,
                             std::int32_t zero_point, const ChannelList& list, std::int32_t num_pixels,
                             std::int32_t input_channels, std::int32_t output_channels) {
  const Gradients gradients = {d_output, list.channels, list.num_channels, 1, output_channels};
  AddProduct(&AddPanel<2, false, false>, d_kernel, gradients, {input, nullptr, zero_point, num_pixels, input_channels});
  if (d_bias != nullptr) AddBias(d_bias, gradients, num_pixels);
}

void PointwiseBackwardKernelPlanes(float* d_kernel, float* d_bias, const float* d_output, const std::int8_t* input,
                                   std::int32_t zero_point, const ChannelList& list, std::int32_t num_pixels,
                                   std::int32_t input_channels) {
  const Gradients gradients = {d_output, list.channels, list.num_channels, num_pixels, 1};
  AddProduct(&AddPanel<2, true, true>, d_kernel, gradients, {input, nullptr, zero_point, num_pixels, input_channels});
  if (d_bias != nullptr) AddBias(d_bias, gradients, num_pixels);
}

// d_input[p] = sum over o of weights[o] * d_output[p][o]
void PointwiseBackwardPlanePart(float* d_input, const float* d_output, const float* weights, std::int32_t count, bool first,
                                std::int32_t num_pixels, std::int32_t output_channels) {
  std::int32_t p = 0;
  for (; num_pixels % 4 == 0 && p < num_pixels; p += 4, d_output += 4 * output_channels) {
    PlaneTile<4>(d_input + p, d_output, output_channels, weights, count, first);
  }
  for (; p + 9 <= num_pixels; p += 9, d_output += 9 * output_channels) {
    PlaneTile<9>(d_input + p, d_output, output_channels, weights, count, first);
  }
  for (; p < num_pixels; ++p, d_output += output_channels) {
    PlaneTile<1>(d_input + p, d_output, output_channels, weights, count, first);
  }
}

// weights[o] = kernel[o][channel]
void PointwiseBackwardPlane(float* d_input, const float* d_output, const std::int8_t* kernel, std::int32_t channel,
                            std::int32_t num_pixels, std::int32_t input_channels, std::int32_t output_channels) {
  float weights[kPlanePart];
  for (std::int32_t o = 0; o < output_channels; o += kPlanePart) {
    const std::int32_t count = Smaller(kPlanePart, output_channels - o);
    FillFloats(weights, kernel + o * input_channels + channel, input_channels, Weight{}, count);
    PointwiseBackwardPlanePart(d_input, d_output + o, weights, count, o == 0, num_pixels, output_channels);
  }
}

}  // namespace tinytrain
