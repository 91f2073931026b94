// From two TensorFlow Lite Micro interpreters to a Model. Includes nothing of it and names none of its namespaces: the
// interpreter's type is a template argument, so that any version will do (tflite::MicroInterpreter, another namespace, a fork).
//
//   using Bindable = tinytrain::BindableInterpreter<tflite::MicroInterpreter>;
//   static tflite::MicroInterpreter frozen(frozen_model, resolver, frozen_arena, sizeof(frozen_arena));
//   static Bindable trainable(trainable_model, resolver, trainable_arena, sizeof(trainable_arena));
//   frozen.AllocateTensors();
//   trainable.AllocateTensors();
//   static tinytrain::InterpreterModel<tflite::MicroInterpreter> interpreters(&frozen, &trainable);
//   trainer.Init(tables, tables.training, interpreters.model(), arena, sizeof(arena));
//
// Lifetime: interpreters and InterpreterModel must outlive the Trainer. After another AllocateTensors() of the trainable
// interpreter the weights are those in flash again: call Init again, or Bind.
#ifndef TINYTRAIN_TFLM_H_
#define TINYTRAIN_TFLM_H_

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "tinytrain.h"

namespace tinytrain {

// An interpreter whose constant tensors can be pointed at RAM. Good for what caches nothing derived from weights: convolution
// and depthwise convolution everywhere, fully connected except on cores with MVE (Cortex-M55, M85).
template <class Interpreter>
class BindableInterpreter : public Interpreter {
 public:
  using Interpreter::Interpreter;

  // Reads tensor `tensor_index` from `data` from the next Invoke on. After AllocateTensors only.
  bool Bind(std::int32_t tensor_index, const void* data) {
    const auto& context = this->context();
    auto* tensor = context.GetEvalTensor == nullptr ? nullptr : context.GetEvalTensor(&context, tensor_index);
    if (tensor == nullptr) return false;
    tensor->data.data = const_cast<void*>(data);
    return true;
  }
};

// The Model of a frozen and a trainable interpreter, both allocated.
template <class Interpreter>
class InterpreterModel {
 public:
  using Bindable = BindableInterpreter<Interpreter>;

  // `frozen` may be nullptr: then images go straight into the trainable part.
  InterpreterModel(Interpreter* frozen, Bindable* trainable) : frozen_(frozen), trainable_(trainable) {}

  Model model() { return {this, frozen_ == nullptr ? nullptr : &RunFrozen, &RunTrainable, &BindTensor}; }

 private:
  static bool Invoke(Interpreter* interpreter, const std::int8_t* input) {
    auto* tensor = interpreter->input(0);
    if (tensor == nullptr) return false;
    std::memcpy(tensor->data.int8, input, tensor->bytes);
    return static_cast<int>(interpreter->Invoke()) == 0;  // kTfLiteOk
  }
  static bool RunFrozen(void* context, const std::int8_t* image, std::int8_t* features) {
    auto* self = static_cast<InterpreterModel*>(context);
    if (!Invoke(self->frozen_, image)) return false;
    const auto* output = self->frozen_->output(0);
    if (output == nullptr || output->bytes != self->trainable_->input(0)->bytes) return false;
    std::memcpy(features, output->data.int8, output->bytes);
    return true;
  }
  static bool RunTrainable(void* context, const std::int8_t* features, const std::int8_t** outputs) {
    auto* self = static_cast<InterpreterModel*>(context);
    const std::size_t num_outputs = self->trainable_->outputs_size();
    if (num_outputs > static_cast<std::size_t>(kMaxOutputs) || !Invoke(self->trainable_, features)) return false;
    for (std::size_t i = 0; i < num_outputs; ++i) outputs[i] = self->trainable_->output(i)->data.int8;
    return true;
  }
  static bool BindTensor(void* context, std::int32_t tensor_index, const void* data, std::size_t) {
    return static_cast<InterpreterModel*>(context)->trainable_->Bind(tensor_index, data);
  }

  Interpreter* frozen_;
  Bindable* trainable_;
};

}  // namespace tinytrain

#endif  // TINYTRAIN_TFLM_H_
