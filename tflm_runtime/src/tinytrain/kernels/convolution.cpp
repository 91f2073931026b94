#include "tinytrain/numerics/strict_float.h"

#include "tinytrain/kernels/kernels.h"

#include <cstring>

#include "tinytrain/kernels/fast.h"
#include "tinytrain/kernels/window.h"

namespace tinytrain {

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

void ScaleChannels(float* d_output, const float* scales, std::int32_t num_pixels, std::int32_t num_channels) {
  for (std::int32_t p = 0; p < num_pixels; ++p, d_output += num_channels) {
    for (std::int32_t c = 0; c < num_channels; ++c) d_output[c] *= scales[c];
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
