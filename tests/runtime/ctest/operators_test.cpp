// The way back through every operator, from its row, against central differences of its forward pass in double.
#include "operands.h"
#include "tinytrain/backward/kernel_rows.h"
#include "tinytrain/backward/operators.h"
#include "tinytrain/memory/memory.h"

namespace {

using check::Doubles;
using check::Near;
using check::Random;
using operands::InDouble;
using operands::Operands;
using tinytrain::Operator;
using tinytrain::WindowShape;

// A layer of one operator: its window, and the operands of its kernel, if it has one.
struct Case {
  Case(Random* random, Operator op, const WindowShape& shape)
      : o(random, shape, op == Operator::kDepthwiseConv2D), layer{}, tables{} {
    layer.op = op;
    layer.input2 = tinytrain::RowOf(op).Has(tinytrain::kTwoInputs) ? 0 : tinytrain::kNone;
    layer.output = 1;
    layer.kernel_height = shape.kernel_height;
    layer.kernel_width = shape.kernel_width;
    layer.stride_height = shape.stride_height;
    layer.stride_width = shape.stride_width;
    layer.pad_top = shape.pad_top;
    layer.pad_left = shape.pad_left;
    layer.slope = static_cast<float>(random->Between(0, 6)) / 4.0f;
    layer.kernel = o.kernel.data();
    layer.kernel_scales = o.scales.data();
    tensors[0] = {shape.input_height, shape.input_width, shape.input_channels, 1.0f, o.zero_point, 0, 0, 0};
    tensors[1] = {shape.output_height, shape.output_width, shape.output_channels, 1.0f, 0, 1, 0, 0};
    tables.tensors = tensors;
    tables.layers = &layer;
  }

  Operands o;
  tinytrain::Layer layer;
  tinytrain::Tensor tensors[2];
  tinytrain::Tables tables;
};

WindowShape WindowOf(Random* random, Operator op) {
  const WindowShape same = operands::PointwiseWindow(random->Between(1, 5), random->Between(1, 5), 3, 3);
  switch (op) {
    case Operator::kConv2D: return random->Between(0, 1) == 0 ? same : operands::AnyWindow(random, false);
    case Operator::kDepthwiseConv2D:
    case Operator::kAveragePool2D:
    case Operator::kMaxPool2D: return operands::AnyWindow(random, true);
    case Operator::kDense: return {2, 3, 4, 1, 1, 5, 1, 1, 1, 1, 0, 0};
    case Operator::kDenseAlong: return {2, 3, 4, 1, 6, 5, 1, 1, 1, 1, 0, 0};
    case Operator::kReshape: return {2, 3, 4, 1, 1, 24, 1, 1, 1, 1, 0, 0};
    case Operator::kPad: return {2, 3, 4, 5, 4, 4, 1, 1, 1, 1, 2, 1};
    case Operator::kConcatenate: return {2, 3, 4, 2, 3, 6, 1, 1, 1, 1, 0, 0};
    case Operator::kAdd:
    case Operator::kActivation:
    case Operator::kLeakyRelu:
    case Operator::kMultiply:
    case Operator::kScale:
    case Operator::kLogistic:
    case Operator::kHardSwish:
    case Operator::kTanh:
    case Operator::kElu:
    case Operator::kPrelu: return same;
  }
  return same;
}

// The output in double; the activation of kActivation is the runtime's to take first, and here linear.
Doubles Forward(const Case& c, const Doubles& input) {
  WindowShape s = c.o.s;
  switch (c.layer.op) {
    case Operator::kDense: s = operands::PointwiseWindow(1, 1, static_cast<std::int32_t>(input.size()), s.output_channels);
    // falls through
    case Operator::kDenseAlong:
    case Operator::kConv2D:
    case Operator::kDepthwiseConv2D: return naive::Convolution(input, c.o.RealKernel(), s, c.o.depthwise);
    case Operator::kAveragePool2D: return naive::AveragePool(input, s);
    case Operator::kMaxPool2D: return naive::MaxPool(input, s);
    case Operator::kPad: return naive::Pad(input, s);
    case Operator::kLeakyRelu: return naive::LeakyRelu(input, static_cast<double>(c.layer.slope));
    case Operator::kMultiply: return naive::Product(input, c.o.RealInput());  // the other factor: the same, but constant
    case Operator::kConcatenate: return naive::Part(input, s, s.output_channels - s.input_channels);  // the second part
    case Operator::kScale:
      return naive::Map(input, [&c](double x, std::int32_t) { return static_cast<double>(c.layer.slope) * x; });
    case Operator::kLogistic: return naive::Map(input, [](double x, std::int32_t) { return 1.0 / (1.0 + std::exp(-x)); });
    case Operator::kTanh: return naive::Map(input, [](double x, std::int32_t) { return std::tanh(x); });
    case Operator::kElu: return naive::Map(input, [](double x, std::int32_t) { return x > 0.0 ? x : std::exp(x) - 1.0; });
    case Operator::kHardSwish:
      return naive::Map(input, [](double x, std::int32_t) { return x * std::fmax(0.0, std::fmin(6.0, x + 3.0)) / 6.0; });
    case Operator::kPrelu:
      return naive::Map(input, [&c](double x, std::int32_t i) {
        return x > 0.0 ? x : x * static_cast<double>(c.o.scales[static_cast<std::size_t>(i % c.o.s.output_channels)]);
      });
    case Operator::kAdd:  // of one input; the other is a constant
    case Operator::kActivation:
    case Operator::kReshape: return input;
  }
  return {};
}

// The dense layer's kernel is [out][in], whatever the input's shape.
WindowShape OperandShape(Operator op, const WindowShape& s) {
  if (op == Operator::kDenseAlong) return operands::PointwiseWindow(1, s.output_width, s.input_channels, s.output_channels);
  if (op != Operator::kDense) return s;
  return operands::PointwiseWindow(1, 1, s.input_height * s.input_width * s.input_channels, s.output_channels);
}

void InputGradient(const std::string& name, const Case& c, const tinytrain::OperatorRow& row, const Doubles& input,
                   const Doubles& expected) {
  const tinytrain::TrainedState untrained{};
  const tinytrain::KernelRows kernel(c.tables, c.layer, untrained);
  std::vector<std::int8_t> output;
  for (const double value : Forward(c, input)) {
    const double q = std::round(value / static_cast<double>(c.tensors[1].scale)) + c.tensors[1].zero_point;
    output.push_back(static_cast<std::int8_t>(std::fmax(-128, std::fmin(127, q))));
  }
  for (const bool accumulate : {false, true}) {
    auto d_output = c.o.d_output;
    std::vector<float> d_input(input.size(), accumulate ? 0.5f : 0.0f);
    if (!accumulate && row.Has(tinytrain::kInPlace)) d_input.assign(input.size(), 99.0f);  // to be overwritten
    Doubles sum = expected;
    for (double& value : sum) value += accumulate ? 0.5 : 0.0;
    row.input_backward({c.layer, c.tensors[0], c.tensors[1], kernel, tinytrain::ShapeOf(c.layer, c.tensors[0], c.tensors[1]),
                        row.Has(tinytrain::kReadsInput) ? c.o.input.data() : nullptr,
                        row.Has(tinytrain::kReadsOutput) ? output.data() : nullptr, d_input.data(), d_output.data(), accumulate,
                        &c.tensors[0], c.o.input.data(), true});
    Near(name + (accumulate ? ", added" : ""), d_input, sum);
  }
  if (!row.Has(tinytrain::kInPlace)) return;
  auto both = c.o.d_output;
  row.input_backward({c.layer, c.tensors[0], c.tensors[1], kernel, tinytrain::ShapeOf(c.layer, c.tensors[0], c.tensors[1]),
                      row.Has(tinytrain::kReadsInput) ? c.o.input.data() : nullptr,
                      row.Has(tinytrain::kReadsOutput) ? output.data() : nullptr, both.data(), both.data(), false,
                      &c.tensors[0], c.o.input.data(), true});
  Near(name + ", in place", both, expected);
}

void KernelGradient(const std::string& name, const Case& c, const tinytrain::OperatorRow& row) {
  tinytrain::TrainedState state{};
  std::vector<float> d_kernel(c.o.channels.size() * c.o.WeightsPerChannel(), 0.0f), d_bias(c.o.channels.size(), 0.0f);
  state.layer = &c.layer;
  state.d_kernel = d_kernel.data();
  state.d_bias = d_bias.data();
  row.kernel_backward({state, c.tensors[0], tinytrain::ShapeOf(c.layer, c.tensors[0], c.tensors[1]), c.o.List(),
                       c.o.input.data(), c.o.d_output.data()});
  const tinytrain::KernelLayout layout = tinytrain::LayoutOf(c.tables, c.layer);
  check::True(name + " has the kernel's layout",
              layout.output_channels == c.o.s.output_channels &&
                  layout.weights_per_channel == static_cast<std::int32_t>(c.o.WeightsPerChannel()) &&
                  layout.weight_step == static_cast<std::int32_t>(c.o.KernelAt(0, 1)));
  Near(name + "'s kernel", d_kernel, c.o.ExpectedKernel());
  Near(name + "'s bias", d_bias, c.o.BiasRows());
}

// For an operator whose gradient reads values that are not whole: scales that suit it, and an input from which these values
// are exact in int8. Returns whether it is such an operator.
bool PutOnGrid(Case* c, Doubles* input) {
  tinytrain::Tensor& output = c->tensors[1];
  const auto inverse = [&](float scale, std::int32_t zero_point, double (*function)(double)) {
    output.scale = scale;
    output.zero_point = zero_point;
    for (double& x : *input) {
      const double q = std::fmod(x, 60.0) - (zero_point < 0 ? 0.0 : 0.5);  // from -60 to 60; -0.5: no output is 0
      x = function(static_cast<double>(scale) * (std::ceil(q) + (zero_point < 0 ? 128.0 : std::ceil(q) < 1.0 ? -1.0 : 0.0)));
    }
    return true;
  };
  switch (c->layer.op) {
    case Operator::kLogistic: return inverse(1.0f / 256, -128, [](double y) { return std::log(y / (1.0 - y)); });
    case Operator::kTanh: return inverse(1.0f / 128, 0, [](double y) { return std::atanh(y); });
    case Operator::kElu: return inverse(1.0f / 64, 0, [](double y) { return y > 0.0 ? y : std::log(1.0 + y); });
    case Operator::kHardSwish:
      c->tensors[0].scale = 1.0f / 16;
      for (std::size_t i = 0; i < input->size(); ++i) {
        if (std::fabs((*input)[i]) == 48.0) c->o.input[i] = static_cast<std::int8_t>(c->o.zero_point);  // there is no gradient
        (*input)[i] = (c->o.input[i] - c->o.zero_point) / 16.0;
      }
      return true;
    default: return false;
  }
}

void RunOperator(Operator op, std::uint32_t seed) {
  Random random(seed);
  const tinytrain::OperatorRow& row = tinytrain::RowOf(op);
  const std::string name = "operator " + std::to_string(static_cast<int>(op));
  const WindowShape shape = WindowOf(&random, op);
  Case c(&random, op, shape);
  check::True(name + " is valid", row.is_valid(c.layer, c.tensors[0], c.tensors[1]));
  c.o = Operands(&random, OperandShape(op, shape), c.o.depthwise);
  c.layer.kernel = c.o.kernel.data();
  c.layer.kernel_scales = c.o.scales.data();
  c.tensors[0].zero_point = c.o.zero_point;
  if (op == Operator::kMaxPool2D) {  // no two values are alike, so that there is one gradient
    for (std::size_t i = 0; i < c.o.input.size(); ++i) c.o.input[i] = static_cast<std::int8_t>(i * 89 % 251 - 125);
  }
  const Doubles d_output = InDouble(c.o.d_output);
  Doubles input = c.o.RealInput();
  if (op == Operator::kLeakyRelu ||
      op == Operator::kPrelu) {  // away from 0, where there is no gradient, and within the int8 range of the output
    for (double& value : input) value = (value < 0.0 ? -1.0 : 1.0) * (1.0 + std::fmod(std::fabs(value), 50.0));
  }
  const bool is_curved = PutOnGrid(&c, &input);
  const auto loss = [&](const Doubles& x) { return naive::Dot(d_output, Forward(c, x)); };
  InputGradient(name, c, row, input, check::CentralDifferences(loss, input, is_curved ? 1e-4 : 0.25));
  if (row.kernel_backward != nullptr) KernelGradient(name, c, row);
}

}  // namespace

int main() {
  int number = 0;
  for (; tinytrain::RowOf(static_cast<Operator>(number)).is_valid != nullptr; ++number) {
    for (std::uint32_t seed = 0; seed < 20; ++seed) RunOperator(static_cast<Operator>(number), seed);
  }
  for (int unknown = number; unknown < 256; ++unknown) {
    check::True("a number that is no operator has no row",
                tinytrain::RowOf(static_cast<Operator>(unknown)).is_valid == nullptr);
  }
  return check::Result("operators");
}
