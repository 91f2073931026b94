// Instructions of kernels on shapes: the cases come from the test, as initialisers; their counts go to standard output.
#include <cstdint>

#include "board.h"
#include "tinytrain/kernels/kernels.h"
#include "tinytrain_tables.h"

namespace {

enum Kernel {
  kPointwiseInput,
  kPointwiseKernel,
  kPointwisePlane,        // channel by channel, as the interior of a bottleneck goes: of the 1 x 1 convolution at its end
  kPointwiseInputPlanes,  // and of that at its beginning, some channels at once
  kPointwiseKernelPlanes,
  kDepthwiseInput,
  kDepthwiseKernel,
  kDepthwisePlane,
  kDepthwisePlaneKernel,
};

struct Case {
  Kernel kernel;
  tinytrain::WindowShape shape;
  std::int32_t num_channels;  // whose weights are wanted
  std::int32_t num_planes;    // of as many channels there is a gradient at a time
};
const Case cases[] = {CASES};

float d_input[LARGEST], d_output[LARGEST], d_kernel[LARGEST], scales[1024];
std::int8_t input[LARGEST], kernel[LARGEST];
std::uint16_t channels[1024], planes[tinytrain::kMaxPlanes];

std::uint32_t Random() {
  static std::uint32_t state = 1;
  return state = state * 1664525u + 1013904223u;
}

void Run(const Case& c) {
  using namespace tinytrain;
  const WindowShape& s = c.shape;
  const std::int32_t inputs = s.input_channels, outputs = s.output_channels, pixels = s.output_height * s.output_width;
  const std::int32_t taps = s.kernel_height * s.kernel_width, last = c.num_channels;
  const DepthwiseShape window(s);
  const ChannelList list = {channels, last};
  const auto count = [&](std::int32_t n) { return last - n < c.num_planes ? last - n : c.num_planes; };
  switch (c.kernel) {
    case kPointwiseInput: return PointwiseBackwardInput(d_input, d_output, kernel, scales, pixels, inputs, outputs);
    case kPointwiseKernel: return PointwiseBackwardKernel(d_kernel, nullptr, d_output, input, 3, list, pixels, inputs, outputs);
    case kPointwisePlane:
      for (std::int32_t n = 0; n < last; ++n) PointwiseBackwardPlane(d_input, d_output, kernel, n, pixels, inputs, outputs);
      return;
    case kPointwiseInputPlanes:
      for (std::int32_t n = 0; n < last; n += c.num_planes) {
        const std::int8_t* rows[kMaxPlanes];
        for (std::int32_t i = 0; i < count(n); ++i) rows[i] = kernel + (n + i) * inputs;
        PointwiseBackwardInputPlanes(d_input, d_output, rows, scales + n, pixels, inputs, count(n));
      }
      return;
    case kPointwiseKernelPlanes:
      for (std::int32_t n = 0; n < last; n += c.num_planes) {
        PointwiseBackwardKernelPlanes(d_kernel + n * inputs, nullptr, d_output, input, 3, {planes, count(n)}, pixels, inputs);
      }
      return;
    case kDepthwiseInput: return DepthwiseBackwardInput(d_input, d_output, kernel, scales, s);
    case kDepthwiseKernel: return DepthwiseBackwardKernel(d_kernel, nullptr, d_output, input, 3, list, s);
    case kDepthwisePlane:
      for (std::int32_t n = 0; n < last; ++n) DepthwiseBackwardPlane(d_input, d_output, kernel, scales[n], n, window);
      return;
    case kDepthwisePlaneKernel:
      for (std::int32_t n = 0; n < last; ++n) {
        DepthwiseBackwardPlaneKernel(d_kernel + n * taps, nullptr, d_output, input, 3, n, window);
      }
      return;
  }
}

}  // namespace

int main() {
  for (float& x : d_output) x = static_cast<float>(Random() >> 8) * 1e-7f - 0.5f;
  for (float& x : scales) x = 1.0f;  // gradients are scaled where they lie, again and again
  for (std::int8_t& x : input) x = static_cast<std::int8_t>(Random() >> 24);
  for (std::int8_t& x : kernel) x = static_cast<std::int8_t>(Random() >> 24);
  for (std::uint16_t i = 0; i < tinytrain::kMaxPlanes; ++i) planes[i] = i;
  for (const Case& c : cases) {
    for (std::int32_t i = 0; i < c.num_channels; ++i) {
      channels[i] = static_cast<std::uint16_t>(i * c.shape.output_channels / c.num_channels);
    }
    const std::uint64_t begin = board::Instructions();
    Run(c);
    const std::uint64_t spent = board::Instructions() - begin;
    board::Write(&spent, sizeof(spent));
  }
  return 0;
}
