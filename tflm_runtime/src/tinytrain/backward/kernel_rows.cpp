#include "tinytrain/numerics/strict_float.h"

#include "tinytrain/backward/kernel_rows.h"

namespace tinytrain {

KernelRows::KernelRows(const Tables& tables, const Layer& layer, const TrainedState& state)
    : layer_(layer), state_(state), layout_(LayoutOf(tables, layer)), whole_(layer.kernel) {
  if (state.trained != nullptr) whole_ = state.trained->kernel == nullptr ? state.kernel : nullptr;
}

std::int32_t KernelRows::NumTrainedBelow(std::int32_t channel) const {
  std::int32_t low = 0, high = state_.trained->num_channels;
  while (low < high) {
    const std::int32_t middle = (low + high) / 2;
    if (state_.trained->channels[middle] < channel) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

const std::int8_t* KernelRows::Row(std::int32_t channel) const {
  if (whole_ != nullptr) return whole_ + channel * layout_.channel_step;
  return RunFrom(channel).rows;
}

Run KernelRows::RunFrom(std::int32_t channel) const {
  if (whole_ != nullptr) return {channel, num_channels() - channel, Row(channel)};
  const std::int32_t n = NumTrainedBelow(channel), num_trained = state_.trained->num_channels;
  const std::uint16_t* channels = state_.trained->channels;
  const std::int32_t next = n < num_trained ? channels[n] : num_channels();  // the next that is trained
  if (next != channel) return {channel, next - channel, layer_.kernel + (channel - n) * layout_.channel_step};
  std::int32_t count = 1;
  while (n + count < num_trained && channels[n + count] == channel + count) ++count;
  return {channel, count, state_.kernel + n * layout_.channel_step};
}

// Each output pixel is a convolution with one output pixel, whose padding is smaller by the pixel's distance from the edge.
void ConvBackwardInputRows(float* d_input, const float* d_output, const KernelRows& kernel, const float* kernel_scales,
                           const WindowShape& s) {
  WindowShape pixel = s;
  pixel.output_height = pixel.output_width = 1;
  for (std::int32_t oy = 0; oy < s.output_height; ++oy) {
    pixel.pad_top = s.pad_top - oy * s.stride_height;
    for (std::int32_t ox = 0; ox < s.output_width; ++ox, d_output += s.output_channels) {
      pixel.pad_left = s.pad_left - ox * s.stride_width;
      for (Run run{0, 0, nullptr}; run.first < s.output_channels; run.first += run.count) {
        run = kernel.RunFrom(run.first);
        pixel.output_channels = run.count;
        ConvBackwardInput(d_input, d_output + run.first, run.rows, kernel_scales + run.first, pixel);
      }
    }
  }
}

// d_input[p][channel] = sum over o of kernel[o][channel] * d_output[p][o]
void PointwiseBackwardPlaneRows(float* d_input, const float* d_output, const KernelRows& kernel, std::int32_t channel,
                                std::int32_t num_pixels, std::int32_t input_channels) {
  float weights[kPlanePart];
  std::int32_t first = 0, count = 0;  // output channels of the present part
  for (Run run{0, 0, nullptr}; run.first < kernel.num_channels(); run.first += run.count) {
    run = kernel.RunFrom(run.first);
    for (std::int32_t o = 0; o < run.count; ++o) {
      weights[count++] = static_cast<float>(run.rows[o * input_channels + channel]);
      if (count < kPlanePart && run.first + o + 1 < kernel.num_channels()) continue;
      PointwiseBackwardPlanePart(d_input, d_output + first, weights, count, first == 0, num_pixels, kernel.num_channels());
      first += count;
      count = 0;
    }
  }
}

}  // namespace tinytrain
