// Each kernel of the runtime as a Python function. Outputs are zeroed first, wrong sizes raise ValueError.
#include "binding.h"

#include <pybind11/stl.h>

#include <cstring>
#include <string>
#include <vector>

#include "tinytrain/trainer/head.h"
#include "tinytrain/kernels/kernels.h"
#include "tinytrain/numerics/math.h"
#include "tinytrain/kernels/pooling.h"
#include "tinytrain/numerics/random.h"
#include "tinytrain/memory/weights.h"

namespace {

// `shape` is (ih, iw, ic, oh, ow, oc, kh, kw, sh, sw, pt, pl)

tt::WindowShape ShapeFrom(const std::vector<std::int32_t>& v) {
  if (v.size() != 12) throw py::value_error("a window shape has 12 numbers, received " + std::to_string(v.size()));
  return {v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7], v[8], v[9], v[10], v[11]};
}

FloatArray Zeros(const std::vector<py::ssize_t>& shape) {
  FloatArray array(shape);
  std::memset(array.mutable_data(), 0, static_cast<std::size_t>(array.nbytes()));
  return array;
}

void Expect(const py::array& array, std::int64_t elements, const char* what) {
  if (array.size() != elements) {
    throw py::value_error(std::string(what) + " must have " + std::to_string(elements) + " elements, received " +
                          std::to_string(array.size()));
  }
}

void ExpectChannels(const Uint16Array& channels, std::int32_t output_channels) {
  for (py::ssize_t i = 0; i < channels.size(); ++i) {
    if (channels.data()[i] >= output_channels) throw py::index_error("a channel is out of range");
  }
}

using BackwardInput = void (*)(float*, const float*, const std::int8_t*, const float*, const tt::WindowShape&);
using BackwardKernel = void (*)(float*, float*, const float*, const std::int8_t*, std::int32_t, const tt::ChannelList&,
                                const tt::WindowShape&);

std::vector<float> Planes(const float* x, std::int32_t num_pixels, std::int32_t num_channels) {
  std::vector<float> planes(static_cast<std::size_t>(num_pixels) * num_channels);
  for (std::int32_t p = 0; p < num_pixels; ++p) {
    for (std::int32_t c = 0; c < num_channels; ++c) planes[c * num_pixels + p] = *x++;
  }
  return planes;
}

void PointwiseInput(float* d_input, const float* d_output, const std::int8_t* kernel, const float* scales,
                    const tt::WindowShape& s) {
  std::vector<float> scaled(d_output, d_output + s.output_height * s.output_width * s.output_channels);
  tt::PointwiseBackwardInput(d_input, scaled.data(), kernel, scales, s.input_height * s.input_width, s.input_channels,
                             s.output_channels);
}
void PointwiseKernel(float* d_kernel, float* d_bias, const float* d_output, const std::int8_t* input, std::int32_t zero_point,
                     const tt::ChannelList& list, const tt::WindowShape& s) {
  tt::PointwiseBackwardKernel(d_kernel, d_bias, d_output, input, zero_point, list, s.input_height * s.input_width,
                              s.input_channels, s.output_channels);
}

void PlanesInput(float* d_input, const float* d_output, const std::int8_t* kernel, const float* scales,
                 const tt::WindowShape& s) {
  const std::int32_t num_pixels = s.input_height * s.input_width;
  auto planes = Planes(d_output, num_pixels, s.output_channels);
  std::vector<const std::int8_t*> rows;
  for (std::int32_t o = 0; o < s.output_channels; ++o) rows.push_back(kernel + o * s.input_channels);
  tt::PointwiseBackwardInputPlanes(d_input, planes.data(), rows.data(), scales, num_pixels, s.input_channels,
                                   s.output_channels);
}
void PlanesKernel(float* d_kernel, float* d_bias, const float* d_output, const std::int8_t* input, std::int32_t zero_point,
                  const tt::ChannelList& list, const tt::WindowShape& s) {
  const std::int32_t num_pixels = s.input_height * s.input_width;
  const auto planes = Planes(d_output, num_pixels, s.output_channels);
  tt::PointwiseBackwardKernelPlanes(d_kernel, d_bias, planes.data(), input, zero_point, list, num_pixels, s.input_channels);
}

std::int32_t WeightsPerChannel(bool depthwise, const tt::WindowShape& s) {
  return s.kernel_height * s.kernel_width * (depthwise ? 1 : s.input_channels);
}

template <BackwardInput kFunction, bool kDepthwise>
FloatArray CallBackwardInput(const FloatArray& d_output, const Int8Array& kernel, const FloatArray& scales,
                             const std::vector<std::int32_t>& shape) {
  const tt::WindowShape s = ShapeFrom(shape);
  Expect(d_output, static_cast<std::int64_t>(s.output_height) * s.output_width * s.output_channels, "d_output");
  Expect(kernel, static_cast<std::int64_t>(WeightsPerChannel(kDepthwise, s)) * s.output_channels, "kernel");
  Expect(scales, s.output_channels, "kernel_scales");
  FloatArray d_input = Zeros({1, s.input_height, s.input_width, s.input_channels});
  kFunction(d_input.mutable_data(), d_output.data(), kernel.data(), scales.data(), s);
  return d_input;
}

template <BackwardKernel kFunction, bool kDepthwise>
py::tuple CallBackwardKernel(const FloatArray& d_output, const Int8Array& input, std::int32_t zero_point,
                             const Uint16Array& channels, const std::vector<std::int32_t>& shape) {
  const tt::WindowShape s = ShapeFrom(shape);
  Expect(d_output, static_cast<std::int64_t>(s.output_height) * s.output_width * s.output_channels, "d_output");
  Expect(input, static_cast<std::int64_t>(s.input_height) * s.input_width * s.input_channels, "input");
  ExpectChannels(channels, s.output_channels);
  const tt::ChannelList list = {channels.data(), static_cast<std::int32_t>(channels.size())};
  FloatArray d_kernel = Zeros({channels.size(), WeightsPerChannel(kDepthwise, s)});
  FloatArray d_bias = Zeros({channels.size()});
  kFunction(d_kernel.mutable_data(), d_bias.mutable_data(), d_output.data(), input.data(), zero_point, list, s);
  return py::make_tuple(d_kernel, d_bias);
}

FloatArray CallAveragePool(const FloatArray& d_output, const std::vector<std::int32_t>& shape) {
  const tt::WindowShape s = ShapeFrom(shape);
  Expect(d_output, static_cast<std::int64_t>(s.output_height) * s.output_width * s.output_channels, "d_output");
  FloatArray d_input = Zeros({1, s.input_height, s.input_width, s.input_channels});
  tt::AveragePoolBackward(d_input.mutable_data(), d_output.data(), s);
  return d_input;
}

FloatArray CallMaxPool(const FloatArray& d_output, const Int8Array& input, const std::vector<std::int32_t>& shape) {
  const tt::WindowShape s = ShapeFrom(shape);
  Expect(d_output, static_cast<std::int64_t>(s.output_height) * s.output_width * s.output_channels, "d_output");
  FloatArray d_input = Zeros({1, s.input_height, s.input_width, s.input_channels});
  Expect(input, d_input.size(), "input");
  tt::MaxPoolBackward(d_input.mutable_data(), d_output.data(), input.data(), s);
  return d_input;
}

FloatArray CallPad(const FloatArray& d_output, const std::vector<std::int32_t>& shape) {
  const tt::WindowShape s = ShapeFrom(shape);
  Expect(d_output, static_cast<std::int64_t>(s.output_height) * s.output_width * s.output_channels, "d_output");
  FloatArray d_input = Zeros({1, s.input_height, s.input_width, s.input_channels});
  tt::PadBackward(d_input.mutable_data(), d_output.data(), s);
  return d_input;
}

FloatArray CallIdentity(const FloatArray& d_input, const FloatArray& d_output, bool accumulate) {
  Expect(d_input, d_output.size(), "d_input");
  FloatArray result(d_input.size(), d_input.data());
  tt::IdentityBackward(result.mutable_data(), d_output.data(), accumulate, static_cast<std::size_t>(result.size()));
  return result;
}

FloatArray CallActivation(const FloatArray& d_output, const Int8Array& output, std::int32_t lower, std::int32_t upper) {
  Expect(output, d_output.size(), "output");
  FloatArray result(d_output.size(), d_output.data());
  tt::ActivationBackward(result.mutable_data(), output.data(), lower, upper, static_cast<std::size_t>(result.size()));
  return result;
}

FloatArray CallCosineLogits(const FloatArray& embedding, const FloatArray& prototypes, float logit_scale) {
  const auto dimension = static_cast<std::int32_t>(embedding.size());
  const auto num_classes = static_cast<std::int32_t>(prototypes.shape(0));
  Expect(prototypes, static_cast<std::int64_t>(num_classes) * dimension, "prototypes");
  FloatArray logits(num_classes);
  tt::CosineLogits(logits.mutable_data(), embedding.data(), prototypes.data(), logit_scale, num_classes, dimension);
  return logits;
}

FloatArray CallCosineBackward(const FloatArray& d_logits, const FloatArray& embedding, const FloatArray& prototypes,
                              float logit_scale) {
  const auto dimension = static_cast<std::int32_t>(embedding.size());
  const auto num_classes = static_cast<std::int32_t>(d_logits.size());
  Expect(prototypes, static_cast<std::int64_t>(num_classes) * dimension, "prototypes");
  FloatArray d_embedding(dimension);
  tt::CosineBackward(d_embedding.mutable_data(), d_logits.data(), embedding.data(), prototypes.data(), logit_scale, num_classes,
                     dimension);
  return d_embedding;
}

py::tuple CallSoftmaxCrossEntropy(const FloatArray& logits, std::int32_t label) {
  if (label < 0 || label >= logits.size()) throw py::index_error("the label is out of range");
  FloatArray d_logits(logits.size(), logits.data());
  const float loss = tt::SoftmaxCrossEntropy(d_logits.mutable_data(), label, static_cast<std::int32_t>(d_logits.size()));
  return py::make_tuple(loss, d_logits);
}

}  // namespace

void AddKernels(py::module_* module) {
  py::module_& m = *module;
  const char* input_doc = "(d_output, kernel int8, kernel_scales, shape) -> d_input";
  const char* kernel_doc =
      "(d_output, input int8, zero_point, channels, shape) -> (d_kernel in units of the input scale, d_bias)";
  m.def("conv_backward_input", &CallBackwardInput<&tt::ConvBackwardInput, false>, input_doc);
  m.def("conv_backward_kernel", &CallBackwardKernel<&tt::ConvBackwardKernel, false>, kernel_doc);
  m.def("pointwise_backward_input", &CallBackwardInput<&PointwiseInput, false>, input_doc);
  m.def("pointwise_backward_kernel", &CallBackwardKernel<&PointwiseKernel, false>, kernel_doc);
  m.def("planes_backward_input", &CallBackwardInput<&PlanesInput, false>, "As pointwise_backward_input, by planes.");
  m.def("planes_backward_kernel", &CallBackwardKernel<&PlanesKernel, false>, "As pointwise_backward_kernel, by planes.");
  m.def("depthwise_backward_input", &CallBackwardInput<&tt::DepthwiseBackwardInput, true>, input_doc);
  m.def("depthwise_backward_kernel", &CallBackwardKernel<&tt::DepthwiseBackwardKernel, true>, kernel_doc);
  m.def("average_pool_backward", &CallAveragePool, py::arg("d_output"), py::arg("shape"));
  m.def("max_pool_backward", &CallMaxPool, py::arg("d_output"), py::arg("input"), py::arg("shape"));
  m.def("pad_backward", &CallPad, py::arg("d_output"), py::arg("shape"));
  m.def("identity_backward", &CallIdentity, py::arg("d_input"), py::arg("d_output"), py::arg("accumulate"));
  m.def("activation_backward", &CallActivation, py::arg("d_output"), py::arg("output"), py::arg("lower"), py::arg("upper"));
  m.def("cosine_logits", &CallCosineLogits, py::arg("embedding"), py::arg("prototypes"), py::arg("logit_scale"));
  m.def("cosine_backward", &CallCosineBackward, py::arg("d_logits"), py::arg("embedding"), py::arg("prototypes"),
        py::arg("logit_scale"));
  m.def("softmax_cross_entropy", &CallSoftmaxCrossEntropy, py::arg("logits"), py::arg("label"), "Returns (loss, d_logits).");
  m.def("exp", py::vectorize(&tt::Exp));
  m.def("log", py::vectorize(&tt::Log));
  m.def("round_to_even", py::vectorize(&tt::RoundToEven));
  m.def("quantize_weight", py::vectorize([](float v, float s) { return static_cast<int>(tt::QuantizeWeight(v, s)); }));
  m.def("quantize_bias", py::vectorize(&tt::QuantizeBias));
  m.def("philox", py::vectorize(&tt::Philox), py::arg("key"), py::arg("counter_0"), py::arg("counter_1"));
  m.def("uniform", py::vectorize(&tt::Uniform), py::arg("seed"), py::arg("step"), py::arg("weight"),
        "The number in (0, 1) by which a weight's change is rounded.");
  m.def("add_stochastically", py::vectorize(&tt::AddStochastically), py::arg("q"), py::arg("change"), py::arg("scale"),
        py::arg("u"), py::arg("limit"));
}
