// MicroInterpreter, with the members that the runtime uses and those that it must not: input() and output().
#ifndef TENSORFLOW_LITE_MICRO_MICRO_INTERPRETER_H_
#define TENSORFLOW_LITE_MICRO_MICRO_INTERPRETER_H_

#include "tensorflow/lite/c/common.h"
#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"
#include "tensorflow/lite/schema/schema_generated.h"

namespace tflite {

struct OperatorData;  // of one operator, in the arena

class MicroInterpreter {
 public:
  MicroInterpreter(const Model* model, const MicroOpResolver& resolver, std::uint8_t* arena, std::size_t arena_bytes);
  ~MicroInterpreter();

  TfLiteStatus AllocateTensors();
  TfLiteStatus Invoke();
  TfLiteTensor* input(std::size_t index);
  TfLiteTensor* output(std::size_t index);
  std::size_t inputs_size() const { return graph().inputs()->size(); }
  std::size_t outputs_size() const { return graph().outputs()->size(); }
  const Vector<std::int32_t>& inputs() const { return *graph().inputs(); }
  const Vector<std::int32_t>& outputs() const { return *graph().outputs(); }
  std::size_t arena_used_bytes() const { return head_bytes_ + tail_bytes_; }

 protected:
  const TfLiteContext& context() const { return context_; }

 private:
  const SubGraph& graph() const { return *model_->subgraphs()->Get(0); }
  void* Persistent(std::size_t num_bytes);
  bool MakeTensors();
  bool MakeOperators();
  bool PlanTensors();
  bool IsActivation(std::uint32_t tensor) const;
  bool MakePublic(const Vector<std::int32_t>& indices, TfLiteTensor** tensors);
  void Lifetime(std::uint32_t buffer, std::uint32_t* first, std::uint32_t* last) const;

  const Model* model_;
  const MicroOpResolver& resolver_;
  TfLiteContext context_;
  bool tensors_allocated_ = false;
  TfLiteStatus initialization_status_ = kTfLiteOk;  // one byte, or four where enums are ints
  std::uint8_t* arena_;
  std::size_t arena_bytes_, head_bytes_ = 0, tail_bytes_ = 0;
  TfLiteEvalTensor* tensors_ = nullptr;
  OperatorData* operators_ = nullptr;
  TfLiteTensor* inputs_ = nullptr;
  TfLiteTensor* outputs_ = nullptr;
};

}  // namespace tflite

#endif  // TENSORFLOW_LITE_MICRO_MICRO_INTERPRETER_H_
