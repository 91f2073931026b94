// The stand-in's operators, prepared once and then run.
#ifndef STAND_IN_OPERATORS_H_
#define STAND_IN_OPERATORS_H_

#include "tensorflow/lite/c/common.h"
#include "tensorflow/lite/schema/schema_generated.h"

namespace tflite {

// Of one operator. It lies in the arena, and so do the factors. Its node, options and preparations are as large as those of a
// convolution in TensorFlow Lite Micro, and empty.
struct OperatorData {
  TfLiteNode node;
  std::int32_t options[7], prepared[10];
  const Operator* op;
  BuiltinOperator code;
  std::int32_t* multipliers;  // of each output channel, fixed point at bit 31
  std::int32_t* shifts;
  std::int8_t* scratch;  // written by the depthwise convolution, of ScratchBytes
};

bool IsConvolution(BuiltinOperator code);  // or a dense layer
int OutputChannels(const TfLiteEvalTensor* tensors, const OperatorData& data);
std::size_t ScratchBytes(const TfLiteEvalTensor* tensors, const OperatorData& data);
void SetFactors(const SubGraph& graph, const OperatorData& data, int num_channels);
void Run(const SubGraph& graph, const TfLiteEvalTensor* tensors, const OperatorData& data);

}  // namespace tflite

#endif  // STAND_IN_OPERATORS_H_
