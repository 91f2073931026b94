// Instructions of kernels on shapes: the cases come from the test, as initialisers; their counts go to standard output.
#include <cstdint>

#include "board.h"
#include "tinytrain_kernels.h"

namespace {

enum Kernel {
  kPointwiseInput,
  kPointwiseKernel,
  kPointwisePlane,        // channel by channel, as the middle of a bottleneck goes: of the 1 x 1 convolution at its end
  kPointwiseInputOfOne,   // and of that at its beginning
  kPointwiseKernelOfOne,
  kDepthwiseInput,
  kDepthwiseKernel,
  kDepthwisePlane,
  kDepthwisePlaneKernel,
};

struct Case {
  Kernel kernel;
  tinytrain::WindowShape shape;
  std::int32_t num_channels;  // whose weights are wanted
};
const Case cases[] = {CASES};

float d_input[LARGEST], d_output[LARGEST], d_kernel[LARGEST], scales[1024];
std::int8_t input[LARGEST], kernel[LARGEST];
std::uint16_t channels[1024];

std::uint32_t Random() {
  static std::uint32_t state = 1;
  return state = state * 1664525u + 1013904223u;
}

void Run(const Case& c) {
  using namespace tinytrain;
  const WindowShape& s = c.shape;
  const std::int32_t inputs = s.input_channels, outputs = s.output_channels, pixels = s.output_height * s.output_width;
  const std::int32_t taps = s.kernel_height * s.kernel_width;
  const ChannelList list = {channels, c.num_channels};
  const std::uint16_t only = 0;
  switch (c.kernel) {
    case kPointwiseInput: return PointwiseBackwardInput(d_input, d_output, kernel, scales, pixels, inputs, outputs);
    case kPointwiseKernel:
      return PointwiseBackwardKernel(d_kernel, nullptr, d_output, input, 3, list, pixels, inputs, outputs);
    case kDepthwiseInput: return DepthwiseBackwardInput(d_input, d_output, kernel, scales, s);
    case kDepthwiseKernel: return DepthwiseBackwardKernel(d_kernel, nullptr, d_output, input, 3, list, s);
    default: break;
  }
  for (std::int32_t n = 0; n < c.num_channels; ++n) {
    if (c.kernel == kPointwisePlane) PointwiseBackwardPlane(d_input, d_output, kernel, n, pixels, inputs, outputs);
    if (c.kernel == kPointwiseInputOfOne) {
      PointwiseBackwardInput(d_input, d_output, kernel + n * inputs, scales + n, pixels, inputs, 1);
    }
    if (c.kernel == kPointwiseKernelOfOne) {
      PointwiseBackwardKernel(d_kernel + n * inputs, nullptr, d_output, input, 3, {&only, 1}, pixels, inputs, 1);
    }
    if (c.kernel == kDepthwisePlane) DepthwiseBackwardPlane(d_input, d_output, kernel, scales[n], n, s);
    if (c.kernel == kDepthwisePlaneKernel) {
      DepthwiseBackwardPlaneKernel(d_kernel + n * taps, nullptr, d_output, input, 3, n, s);
    }
  }
}

}  // namespace

int main() {
  for (float& x : d_output) x = static_cast<float>(Random() >> 8) * 1e-7f - 0.5f;
  for (float& x : scales) x = 0.01f;
  for (std::int8_t& x : input) x = static_cast<std::int8_t>(Random() >> 24);
  for (std::int8_t& x : kernel) x = static_cast<std::int8_t>(Random() >> 24);
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
