// A random window with everything that a kernel of it reads, as the runtime holds it and in double.
#ifndef TINYTRAIN_TESTS_OPERANDS_H_
#define TINYTRAIN_TESTS_OPERANDS_H_

#include "naive.h"

namespace operands {

using check::Doubles;
using check::Random;
using tinytrain::WindowShape;

template <typename Values>
Doubles InDouble(const Values& values) {
  return Doubles(values.begin(), values.end());
}

// Any size, stride and padding, as long as every window touches the input.
inline WindowShape AnyWindow(Random* random, bool depthwise) {
  WindowShape s;
  s.input_height = random->Between(1, 6);
  s.input_width = random->Between(1, 6);
  s.input_channels = random->Between(1, 4);
  s.output_channels = depthwise ? s.input_channels : random->Between(1, 4);
  s.kernel_height = random->Between(1, 5);
  s.kernel_width = random->Between(1, 5);
  s.stride_height = random->Between(1, 3);
  s.stride_width = random->Between(1, 3);
  s.pad_top = random->Between(0, s.kernel_height - 1);
  s.pad_left = random->Between(0, s.kernel_width - 1);
  s.output_height = random->Between(1, (s.input_height - 1 + s.pad_top) / s.stride_height + 1);
  s.output_width = random->Between(1, (s.input_width - 1 + s.pad_left) / s.stride_width + 1);
  return s;
}

inline WindowShape PointwiseWindow(std::int32_t height, std::int32_t width, std::int32_t inputs, std::int32_t outputs) {
  return {height, width, inputs, height, width, outputs, 1, 1, 1, 1, 0, 0};
}

inline WindowShape SameWindow(std::int32_t side, std::int32_t channels, std::int32_t size, std::int32_t stride) {
  const std::int32_t output = (side + stride - 1) / stride, pad = (size - 1) / 2;
  return {side, side, channels, output, output, channels, size, size, stride, stride, pad, pad};
}

struct Operands {
  Operands(Random* random, const WindowShape& shape, bool is_depthwise)
      : s(shape),
        depthwise(is_depthwise),
        input(random->Bytes(s.input_height * s.input_width * s.input_channels, -128)),
        kernel(random->Bytes(s.kernel_height * s.kernel_width * (depthwise ? 1 : s.input_channels) * s.output_channels)),
        scales(random->Scales(s.output_channels)),
        d_output(random->Gradients(s.output_height * s.output_width * s.output_channels)),
        zero_point(random->Between(-128, 127)) {
    for (std::int32_t c = 0; c < s.output_channels; ++c) {
      if (random->Between(0, 2) > 0) channels.push_back(static_cast<std::uint16_t>(c));
    }
  }

  std::size_t NumInputs() const { return input.size(); }
  std::size_t WeightsPerChannel() const { return kernel.size() / scales.size(); }
  tinytrain::ChannelList List() const { return {channels.data(), static_cast<std::int32_t>(channels.size())}; }

  // The kernel's element j of output channel c.
  std::size_t KernelAt(std::size_t c, std::size_t j) const {
    return depthwise ? j * scales.size() + c : c * WeightsPerChannel() + j;
  }
  Doubles RealKernel() const {
    Doubles real(kernel.size());
    for (std::size_t c = 0; c < scales.size(); ++c) {
      for (std::size_t j = 0; j < WeightsPerChannel(); ++j) {
        real[KernelAt(c, j)] = static_cast<double>(kernel[KernelAt(c, j)]) * static_cast<double>(scales[c]);
      }
    }
    return real;
  }
  // q - zero_point: kernels leave the input's scale out.
  Doubles RealInput() const {
    Doubles real = InDouble(input);
    for (double& value : real) value -= zero_point;
    return real;
  }
  // The listed channels' rows of a gradient that has the kernel's layout.
  Doubles Rows(const Doubles& d_kernel) const {
    Doubles rows;
    for (const std::uint16_t c : channels) {
      for (std::size_t j = 0; j < WeightsPerChannel(); ++j) rows.push_back(d_kernel[KernelAt(c, j)]);
    }
    return rows;
  }
  Doubles BiasRows() const {
    Doubles rows;
    for (const std::uint16_t c : channels) {
      double sum = 0.0;
      for (std::size_t i = c; i < d_output.size(); i += scales.size()) sum += static_cast<double>(d_output[i]);
      rows.push_back(sum);
    }
    return rows;
  }
  Doubles ExpectedInput() const { return naive::ConvolutionInput(InDouble(d_output), RealKernel(), s, depthwise); }
  Doubles ExpectedKernel() const {
    return Rows(naive::ConvolutionKernel(InDouble(d_output), RealInput(), kernel.size(), s, depthwise));
  }

  WindowShape s;
  bool depthwise;
  std::vector<std::int8_t> input, kernel;
  std::vector<float> scales, d_output;
  std::int32_t zero_point;
  std::vector<std::uint16_t> channels;
};

}  // namespace operands

#endif  // TINYTRAIN_TESTS_OPERANDS_H_
