#include "tinytrain_strict_float.h"

#include "tinytrain_kernels.h"

#include <cstring>

namespace tinytrain {
namespace {

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

// One channel of DepthwiseBackwardKernel: `d_output` and `input` point to that channel at the first pixel, the next pixel's
// gradient is `d_step` further on.
void DepthwiseChannelKernel(float* d_kernel, float* d_bias, const float* d_output, std::int32_t d_step,
                            const std::int8_t* input, std::int32_t zero_point, const WindowShape& s) {
  float d_sum = 0.0f;
  for (std::int32_t oy = 0; oy < s.output_height; ++oy) {
    const Taps rows = RowTaps(oy, s);
    for (std::int32_t ox = 0; ox < s.output_width; ++ox, d_output += d_step) {
      const float gradient = *d_output;
      if (gradient == 0.0f) continue;
      d_sum += gradient;
      const Taps columns = ColumnTaps(ox, s);
      for (std::int32_t ky = rows.first; ky < rows.last; ++ky) {
        const std::int32_t pixel = (rows.origin + ky) * s.input_width + columns.origin + columns.first;
        const std::int8_t* x = input + pixel * s.input_channels;
        float* d_row = d_kernel + ky * s.kernel_width;
        for (std::int32_t kx = columns.first; kx < columns.last; ++kx, x += s.input_channels) {
          d_row[kx] += gradient * static_cast<float>(*x - zero_point);
        }
      }
    }
  }
  if (d_bias != nullptr) *d_bias += d_sum;
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

// output[p][o] = bias[o] + sum over i of kernel[o][i] * input[p][i]
// d_input[p][i] = sum over o of kernel[o][i] * d_output[p][o]
void PointwiseBackwardInput(float* d_input, const float* d_output, const std::int8_t* kernel, const float* kernel_scales,
                            std::int32_t num_pixels, std::int32_t input_channels, std::int32_t output_channels) {
  for (std::int32_t p = 0; p < num_pixels; ++p, d_input += input_channels) {
    for (std::int32_t o = 0; o < output_channels; ++o) {
      const float gradient = *d_output++ * kernel_scales[o];
      if (gradient == 0.0f) continue;
      AddScaledRow(d_input, gradient, kernel + o * input_channels, 0, input_channels);
    }
  }
}

// d_kernel[o][i] = sum over p of input[p][i] * d_output[p][o];  d_bias[o] = sum over p of d_output[p][o]
void PointwiseBackwardKernel(float* d_kernel, float* d_bias, const float* d_output, const std::int8_t* input,
                             std::int32_t zero_point, const ChannelList& list, std::int32_t num_pixels,
                             std::int32_t input_channels, std::int32_t output_channels) {
  for (std::int32_t n = 0; n < list.num_channels; ++n, d_kernel += input_channels) {
    const float* d_pixel = d_output + list.channels[n];
    const std::int8_t* pixel = input;
    float d_sum = 0.0f;
    for (std::int32_t p = 0; p < num_pixels; ++p, d_pixel += output_channels, pixel += input_channels) {
      const float gradient = *d_pixel;
      if (gradient == 0.0f) continue;
      d_sum += gradient;
      AddScaledRow(d_kernel, gradient, pixel, zero_point, input_channels);
    }
    if (d_bias != nullptr) d_bias[n] += d_sum;
  }
}

// output[oy][ox][c] = bias[c] + sum over ky, kx of kernel[ky][kx][c] * input[oy * stride + ky - pad][...][c]
// d_input[...][c] = sum over ky, kx of kernel[ky][kx][c] * d_output[oy][ox][c]
void DepthwiseBackwardInput(float* d_input, const float* d_output, const std::int8_t* kernel, const float* kernel_scales,
                            const WindowShape& s) {
  const std::int32_t num_channels = s.output_channels;
  for (std::int32_t oy = 0; oy < s.output_height; ++oy) {
    const Taps rows = RowTaps(oy, s);
    for (std::int32_t ox = 0; ox < s.output_width; ++ox, d_output += num_channels) {
      const Taps columns = ColumnTaps(ox, s);
      for (std::int32_t ky = rows.first; ky < rows.last; ++ky) {
        for (std::int32_t kx = columns.first; kx < columns.last; ++kx) {
          float* d_pixel = d_input + ((rows.origin + ky) * s.input_width + columns.origin + kx) * num_channels;
          const std::int8_t* tap = kernel + (ky * s.kernel_width + kx) * num_channels;
          for (std::int32_t c = 0; c < num_channels; ++c) {
            d_pixel[c] += d_output[c] * kernel_scales[c] * static_cast<float>(tap[c]);
          }
        }
      }
    }
  }
}

// d_kernel[c][ky][kx] = sum over oy, ox of input[oy * stride + ky - pad][...][c] * d_output[oy][ox][c]
void DepthwiseBackwardKernel(float* d_kernel, float* d_bias, const float* d_output, const std::int8_t* input,
                             std::int32_t zero_point, const ChannelList& list, const WindowShape& s) {
  for (std::int32_t n = 0; n < list.num_channels; ++n, d_kernel += s.kernel_height * s.kernel_width) {
    const std::int32_t c = list.channels[n];
    DepthwiseChannelKernel(d_kernel, d_bias == nullptr ? nullptr : d_bias + n, d_output + c, s.output_channels, input + c,
                           zero_point, s);
  }
}

void DepthwiseBackwardPlaneKernel(float* d_kernel, float* d_bias, const float* d_output, const std::int8_t* input,
                                  std::int32_t zero_point, std::int32_t channel, const WindowShape& s) {
  DepthwiseChannelKernel(d_kernel, d_bias, d_output, 1, input + channel, zero_point, s);
}

void ScaleChannels(float* d_output, const float* scales, std::int32_t num_pixels, std::int32_t num_channels) {
  for (std::int32_t p = 0; p < num_pixels; ++p, d_output += num_channels) {
    for (std::int32_t c = 0; c < num_channels; ++c) d_output[c] *= scales[c];
  }
}

// d_input[p][channel] = sum over o of kernel[o][channel] * d_output[p][o]
void PointwiseBackwardPlane(float* d_input, const float* d_output, const std::int8_t* kernel, std::int32_t channel,
                            std::int32_t num_pixels, std::int32_t input_channels, std::int32_t output_channels) {
  for (std::int32_t p = 0; p < num_pixels; ++p) {
    const std::int8_t* weight = kernel + channel;
    float sum = 0.0f;
    for (std::int32_t o = 0; o < output_channels; ++o, weight += input_channels) {
      sum += *d_output++ * static_cast<float>(*weight);
    }
    d_input[p] = sum;
  }
}

void DepthwiseBackwardPlane(float* d_input, const float* d_output, const std::int8_t* kernel, float kernel_scale,
                            std::int32_t channel, const WindowShape& s) {
  for (std::int32_t oy = 0; oy < s.output_height; ++oy) {
    const Taps rows = RowTaps(oy, s);
    for (std::int32_t ox = 0; ox < s.output_width; ++ox) {
      const Taps columns = ColumnTaps(ox, s);
      const float gradient = *d_output++ * kernel_scale;
      if (gradient == 0.0f) continue;
      for (std::int32_t ky = rows.first; ky < rows.last; ++ky) {
        float* d_row = d_input + (rows.origin + ky) * s.input_width + columns.origin;
        const std::int8_t* taps = kernel + ky * s.kernel_width * s.input_channels + channel;
        for (std::int32_t kx = columns.first; kx < columns.last; ++kx) {
          d_row[kx] += gradient * static_cast<float>(taps[kx * s.input_channels]);
        }
      }
    }
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
