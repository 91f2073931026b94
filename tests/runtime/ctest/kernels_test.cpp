// Every backward kernel against plain loops in double, which themselves are checked against central differences.
#include "operands.h"
#include "tinytrain/backward/fisher.h"
#include "tinytrain/backward/kernel_rows.h"
#include "tinytrain/backward/operators.h"
#include "tinytrain/kernels/kernels.h"
#include "tinytrain/kernels/pooling.h"

namespace {

using check::Doubles;
using check::Near;
using check::Random;
using operands::InDouble;
using operands::Operands;
using tinytrain::WindowShape;

std::vector<float> Zeros(std::size_t count) { return std::vector<float>(count, 0.0f); }

// d_output is a vector of weights: loss = d_output . output, which is linear in the input and in the kernel.
void NaiveGradientsAreTheForwardPass() {
  Random random(1);
  for (int i = 0; i < 40; ++i) {
    const bool depthwise = i % 2 == 1;
    const Operands o(&random, operands::AnyWindow(&random, depthwise), depthwise);
    const Doubles d_output = InDouble(o.d_output), input = o.RealInput(), kernel = o.RealKernel();
    const auto of_input = [&](const Doubles& x) { return naive::Dot(d_output, naive::Convolution(x, kernel, o.s, depthwise)); };
    const auto of_kernel = [&](const Doubles& k) { return naive::Dot(d_output, naive::Convolution(input, k, o.s, depthwise)); };
    Near("naive d_input", o.ExpectedInput(), check::CentralDifferences(of_input, input, 1.0), 1e-9);
    Near("naive d_kernel", naive::ConvolutionKernel(d_output, input, kernel.size(), o.s, depthwise),
         check::CentralDifferences(of_kernel, kernel, 1.0), 1e-9);
  }
}

void Convolution(const Operands& o) {
  auto d_input = Zeros(o.NumInputs()), d_kernel = Zeros(o.channels.size() * o.WeightsPerChannel());
  auto d_bias = Zeros(o.channels.size());
  tinytrain::ConvBackwardInput(d_input.data(), o.d_output.data(), o.kernel.data(), o.scales.data(), o.s);
  tinytrain::ConvBackwardKernel(d_kernel.data(), d_bias.data(), o.d_output.data(), o.input.data(), o.zero_point, o.List(), o.s);
  Near("ConvBackwardInput", d_input, o.ExpectedInput());
  Near("ConvBackwardKernel", d_kernel, o.ExpectedKernel());
  Near("ConvBackwardKernel's bias", d_bias, o.BiasRows());
}

void Pointwise(const Operands& o) {
  const std::int32_t num_pixels = o.s.input_height * o.s.input_width;
  auto d_input = Zeros(o.NumInputs()), d_kernel = Zeros(o.channels.size() * o.WeightsPerChannel());
  auto d_bias = Zeros(o.channels.size());
  auto d_output = o.d_output;
  tinytrain::PointwiseBackwardKernel(d_kernel.data(), d_bias.data(), d_output.data(), o.input.data(), o.zero_point, o.List(),
                                     num_pixels, o.s.input_channels, o.s.output_channels);
  tinytrain::PointwiseBackwardInput(d_input.data(), d_output.data(), o.kernel.data(), o.scales.data(), num_pixels,
                                    o.s.input_channels, o.s.output_channels);
  Near("PointwiseBackwardInput", d_input, o.ExpectedInput());
  Near("PointwiseBackwardKernel", d_kernel, o.ExpectedKernel());
  Near("PointwiseBackwardKernel's bias", d_bias, o.BiasRows());
}

// [pixels][channels] -> [channels][pixels]
template <typename Value>
std::vector<Value> Planes(const std::vector<Value>& values, std::int32_t num_channels) {
  std::vector<Value> planes;
  for (std::int32_t c = 0; c < num_channels; ++c) {
    for (std::size_t i = static_cast<std::size_t>(c); i < values.size(); i += static_cast<std::size_t>(num_channels)) {
      planes.push_back(values[i]);
    }
  }
  return planes;
}

// All output channels as planes, and the gradient of the input plane by plane.
void PointwisePlanes(const Operands& o) {
  const std::int32_t num_pixels = o.s.input_height * o.s.input_width;
  auto planes = Planes(o.d_output, o.s.output_channels);
  auto d_input = Zeros(o.NumInputs()), d_kernel = Zeros(o.channels.size() * o.WeightsPerChannel());
  auto d_bias = Zeros(o.channels.size());
  tinytrain::PointwiseBackwardKernelPlanes(d_kernel.data(), d_bias.data(), planes.data(), o.input.data(), o.zero_point,
                                           o.List(), num_pixels, o.s.input_channels);
  std::vector<const std::int8_t*> rows;
  for (std::size_t c = 0; c < o.scales.size(); ++c) rows.push_back(&o.kernel[o.KernelAt(c, 0)]);
  tinytrain::PointwiseBackwardInputPlanes(d_input.data(), planes.data(), rows.data(), o.scales.data(), num_pixels,
                                          o.s.input_channels, o.s.output_channels);
  Near("PointwiseBackwardInputPlanes", d_input, o.ExpectedInput());
  Near("PointwiseBackwardKernelPlanes", d_kernel, o.ExpectedKernel());
  Near("PointwiseBackwardKernelPlanes' bias", d_bias, o.BiasRows());

  auto scaled = o.d_output;
  tinytrain::ScaleChannels(scaled.data(), o.scales.data(), num_pixels, o.s.output_channels);
  std::vector<float> by_plane, plane(static_cast<std::size_t>(num_pixels));
  for (std::int32_t c = 0; c < o.s.input_channels; ++c) {
    tinytrain::PointwiseBackwardPlane(plane.data(), scaled.data(), o.kernel.data(), c, num_pixels, o.s.input_channels,
                                      o.s.output_channels);
    by_plane.insert(by_plane.end(), plane.begin(), plane.end());
  }
  Near("PointwiseBackwardPlane", by_plane, Planes(o.ExpectedInput(), o.s.input_channels));
}

void Depthwise(const Operands& o) {
  auto d_input = Zeros(o.NumInputs()), d_kernel = Zeros(o.channels.size() * o.WeightsPerChannel());
  auto d_bias = Zeros(o.channels.size());
  tinytrain::DepthwiseBackwardInput(d_input.data(), o.d_output.data(), o.kernel.data(), o.scales.data(), o.s);
  tinytrain::DepthwiseBackwardKernel(d_kernel.data(), d_bias.data(), o.d_output.data(), o.input.data(), o.zero_point, o.List(),
                                     o.s);
  Near("DepthwiseBackwardInput", d_input, o.ExpectedInput());
  Near("DepthwiseBackwardKernel", d_kernel, o.ExpectedKernel());
  Near("DepthwiseBackwardKernel's bias", d_bias, o.BiasRows());
}

// A channel's plane and row of the kernel by themselves.
void DepthwisePlanes(const Operands& o) {
  const tinytrain::DepthwiseShape shape(o.s);
  const auto planes = Planes(o.d_output, o.s.output_channels);
  const auto num_outputs = static_cast<std::size_t>(o.s.output_height * o.s.output_width);
  const auto num_inputs = static_cast<std::size_t>(o.s.input_height * o.s.input_width);
  std::vector<float> d_input(o.NumInputs(), 0.0f), d_kernel, d_bias(o.channels.size(), 0.0f);
  for (std::size_t c = 0; c < o.scales.size(); ++c) {
    tinytrain::DepthwiseBackwardPlane(&d_input[c * num_inputs], &planes[c * num_outputs], o.kernel.data(), o.scales[c],
                                      static_cast<std::int32_t>(c), shape);
  }
  for (std::size_t n = 0; n < o.channels.size(); ++n) {
    auto row = Zeros(o.WeightsPerChannel());
    tinytrain::DepthwiseBackwardPlaneKernel(row.data(), &d_bias[n], &planes[o.channels[n] * num_outputs], o.input.data(),
                                            o.zero_point, o.channels[n], shape);
    d_kernel.insert(d_kernel.end(), row.begin(), row.end());
  }
  Near("DepthwiseBackwardPlane", d_input, Planes(o.ExpectedInput(), o.s.input_channels));
  Near("DepthwiseBackwardPlaneKernel", d_kernel, o.ExpectedKernel());
  Near("DepthwiseBackwardPlaneKernel's bias", d_bias, o.BiasRows());
}

// A kernel. The rows of the listed channels lie elsewhere.
void Rows(const Operands& o) {
  if (o.channels.empty()) return;
  std::vector<std::int8_t> trained, others;
  for (std::size_t c = 0, n = 0; c < o.scales.size(); ++c) {
    const bool is_listed = n < o.channels.size() && o.channels[n] == c;
    n += is_listed ? 1 : 0;
    auto& rows = is_listed ? trained : others;
    rows.insert(rows.end(), &o.kernel[o.KernelAt(c, 0)], &o.kernel[o.KernelAt(c, 0)] + o.WeightsPerChannel());
  }
  const tinytrain::Tensor tensors[] = {{o.s.input_height, o.s.input_width, o.s.input_channels, 1.0f, 0, 0, 0, 0},
                                       {o.s.output_height, o.s.output_width, o.s.output_channels, 1.0f, 0, 0, 0, 0}};
  tinytrain::Layer layer{};
  layer.op = tinytrain::Operator::kConv2D;
  layer.output = 1;
  layer.kernel_height = o.s.kernel_height;
  layer.kernel_width = o.s.kernel_width;
  layer.kernel = others.data();
  tinytrain::Tables tables{};
  tables.tensors = tensors;
  tinytrain::TrainedLayer split{};
  split.channels = o.channels.data();
  split.num_channels = o.List().num_channels;
  split.kernel = trained.data();
  tinytrain::TrainedState state{};
  state.trained = &split;
  state.kernel = trained.data();
  const tinytrain::KernelRows kernel(tables, layer, state);
  auto d_input = Zeros(o.NumInputs());
  tinytrain::ConvBackwardInputRows(d_input.data(), o.d_output.data(), kernel, o.scales.data(), o.s);
  Near("ConvBackwardInputRows", d_input, o.ExpectedInput());
  if (!tinytrain::IsPointwise(o.s)) return;
  const std::int32_t num_pixels = o.s.input_height * o.s.input_width;
  auto scaled = o.d_output;
  tinytrain::ScaleChannels(scaled.data(), o.scales.data(), num_pixels, o.s.output_channels);
  std::vector<float> by_plane, plane(static_cast<std::size_t>(num_pixels));
  for (std::int32_t c = 0; c < o.s.input_channels; ++c) {
    tinytrain::PointwiseBackwardPlaneRows(plane.data(), scaled.data(), kernel, c, num_pixels, o.s.input_channels);
    by_plane.insert(by_plane.end(), plane.begin(), plane.end());
  }
  Near("PointwiseBackwardPlaneRows", by_plane, Planes(o.ExpectedInput(), o.s.input_channels));
}

// ReLU6 on the grid: the gradient stops at both clamps.
void Activation() {
  Random random(5);
  const auto output = random.Bytes(60, -128);
  const auto gradient = random.Gradients(60);
  const std::int32_t lower = -40, upper = 90, num_channels = 4;
  Doubles expected;
  for (std::size_t i = 0; i < output.size(); ++i) {
    expected.push_back(output[i] > lower && output[i] < upper ? static_cast<double>(gradient[i]) : 0.0);
  }
  auto whole = gradient;
  tinytrain::ActivationBackward(whole.data(), output.data(), lower, upper, output.size());
  Near("ActivationBackward", whole, expected, 0.0);
  auto planes = Planes(gradient, num_channels);
  for (std::int32_t c = 0; c < num_channels; ++c) {
    tinytrain::ActivationBackwardPlane(&planes[static_cast<std::size_t>(c) * 15], output.data(), lower, upper, c, 15,
                                       num_channels);
  }
  Near("ActivationBackwardPlane", planes, Planes(expected, num_channels), 0.0);
}

// Fisher information of a channel: the square of the sum of activation times gradient.
void Fisher() {
  Random random(6);
  const tinytrain::Tensor tensor = {3, 5, 4, 0.25f, -7, 0, 0, 0};
  const auto output = random.Bytes(60, -128);
  const auto gradient = random.Gradients(60);
  Doubles expected(4, 2.0);
  for (std::size_t c = 0; c < 4; ++c) {
    double sum = 0.0;
    for (std::size_t i = c; i < 60; i += 4) sum += 0.25 * (output[i] + 7) * static_cast<double>(gradient[i]);
    expected[c] += sum * sum;
  }
  std::vector<float> sums(4, 2.0f), by_plane(4, 2.0f);
  tinytrain::AddFisher(sums.data(), gradient.data(), output.data(), tensor);
  const auto planes = Planes(gradient, 4);
  for (std::int32_t c = 0; c < 4; ++c) {
    const auto at = static_cast<std::size_t>(c);
    tinytrain::AddFisherPlane(&by_plane[at], &planes[at * 15], output.data(), tensor, c);
  }
  Near("AddFisher", sums, expected);
  Near("AddFisherPlane", by_plane, expected);
}

}  // namespace

int main() {
  NaiveGradientsAreTheForwardPass();
  Random random(2);
  for (int i = 0; i < 200; ++i) {
    const Operands o(&random, operands::AnyWindow(&random, false), false);
    Convolution(o);
    Rows(o);
  }
  for (int i = 0; i < 60; ++i) {  // panels of 16, 8 and fewer channels
    const WindowShape s =
        operands::PointwiseWindow(random.Between(1, 5), random.Between(1, 5), random.Between(1, 40), random.Between(1, 40));
    const Operands o(&random, s, false);
    Pointwise(o);
    PointwisePlanes(o);
    Rows(o);
  }
  const Operands wide(&random, operands::PointwiseWindow(3, 3, 5, 230), false);  // several parts of kPlanePart
  PointwisePlanes(wide);
  Rows(wide);
  for (int i = 0; i < 200; ++i) {
    const Operands o(&random, operands::AnyWindow(&random, true), true);
    Depthwise(o);
    DepthwisePlanes(o);
  }
  for (std::int32_t side = 3; side < 10; ++side) {  // squares that have code of their own, and some next to them
    for (std::int32_t size = 3; size < 9; ++size) {
      for (std::int32_t stride = 1; stride < 3; ++stride) {
        const Operands o(&random, operands::SameWindow(side, 6, size, stride), true);
        Depthwise(o);
        DepthwisePlanes(o);
      }
    }
  }
  Activation();
  Fisher();
  return check::Result("kernels");
}
