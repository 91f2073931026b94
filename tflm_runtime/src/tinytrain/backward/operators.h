// Every operator that the runtime can go backwards through, and all that is known of each.
//
// To add one: an enumerator of Operator (tinytrain_tables.h), a row of RowOf, and the functions that the row names. The
// compiler reports a missing row (-Wswitch).
#ifndef TINYTRAIN_OPERATORS_H_
#define TINYTRAIN_OPERATORS_H_

#include <cstdint>

#include "tinytrain/kernels/kernels.h"
#include "tinytrain_tables.h"

namespace tinytrain {

class KernelRows;
struct TrainedState;

// Properties of an operator, one bit each.
enum OperatorProperty : std::uint8_t {
  kNoProperty = 0,
  kTwoInputs = 1,        // Layer::input2 is an input, too
  kInPlace = 2,          // d_input may lie where d_output lies; the step itself obeys `accumulate`
  kReadsInput = 4,       // d_input depends on the values of the input
  kReadsOutput = 8,      // d_input depends on the values of the output
  kColumnChannels = 16,  // kernel [weights][output channels]; without it [output channels][weights]
  kReadsOther = 32       // kTwoInputs: d_input depends on the values of the other input
};

// From the gradient of an output to the gradient of one input.
struct InputStep {
  const Layer& layer;
  const Tensor& input_tensor;
  const Tensor& output_tensor;
  const KernelRows& kernel;
  WindowShape shape;
  const std::int8_t* input;    // values; nullptr without kReadsInput
  const std::int8_t* output;   // values; nullptr without kReadsOutput
  float* d_input;              // zeros, or a gradient to add to; kInPlace: see `accumulate`
  float* d_output;             // may be overwritten
  bool accumulate;             // kInPlace: add to d_input; false: overwrite it
  const Tensor* other_tensor;  // the other input; nullptr without kTwoInputs
  const std::int8_t* other;    // its values; nullptr without kReadsOther
  bool is_second;              // the input is Layer::input2
};

// From the gradient of an output to the gradients of the trained channels' kernel and bias.
struct KernelStep {
  const TrainedState& state;
  const Tensor& input_tensor;
  WindowShape shape;
  ChannelList channels;
  const std::int8_t* input;  // values
  const float* d_output;
};

struct OperatorRow {
  unsigned properties;  // OperatorProperty
  // Whether window and shapes fit; each tensor by itself has been checked. nullptr: there is no such operator.
  bool (*is_valid)(const Layer& layer, const Tensor& input, const Tensor& output);
  // Weights of one output channel, which may exceed 32 bits until KernelIsValid. nullptr: the operator has no kernel.
  std::int64_t (*weights_per_channel)(const Layer& layer, const Tensor& input);
  void (*input_backward)(const InputStep& step);
  void (*kernel_backward)(const KernelStep& step);  // nullptr: the operator has no kernel

  bool Has(OperatorProperty property) const { return (properties & property) != 0; }
};

// The row of an operator; one of nullptrs for a number that is none.
const OperatorRow& RowOf(Operator op);

// A layer's window on its input.
WindowShape ShapeOf(const Layer& layer, const Tensor& input, const Tensor& output);

// Whether a convolution is 1 x 1 and keeps height and width.
bool IsPointwise(const WindowShape& shape);

}  // namespace tinytrain

#endif  // TINYTRAIN_OPERATORS_H_
