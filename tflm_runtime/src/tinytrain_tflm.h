// Makes a Model of two TensorFlow Lite Micro interpreters. It includes nothing of TensorFlow Lite Micro and uses none of its
// namespaces: the interpreter's type is a template argument, so that it works with any version (tflite::MicroInterpreter,
// another namespace, a fork).
//
// Both interpreters and the trainer's scratch in one arena. At most one interpreter exists at a time, and the trainable one
// leaves the end of the arena to the scratch. kModelArenaBytes of the exporter is the size:
//   static tinytrain::SharedArenaModel<tflite::MicroInterpreter, tflite::Model, Resolver, kNumBindings> models(
//       frozen_model, trainable_model, resolver, model_arena, sizeof(model_arena), kScratchBytes, kViewBytes);
//   if (!models.Check()) ...;  // the arena is too small, or an operator is missing
//   trainer.Init(tables, tables.training, models.model(), arena, sizeof(arena));
//
// Or each in an arena of its own, which saves the time to switch between them:
//   using Bindable = tinytrain::BindableInterpreter<tflite::MicroInterpreter>;
//   static Bindable frozen(frozen_model, resolver, frozen_arena, sizeof(frozen_arena));
//   static Bindable trainable(trainable_model, resolver, trainable_arena, sizeof(trainable_arena));
//   frozen.AllocateTensors();
//   trainable.AllocateTensors();
//   static tinytrain::InterpreterModel<tflite::MicroInterpreter> interpreters(&frozen, &trainable);
//   trainer.Init(tables, tables.training, interpreters.model(), arena, sizeof(arena));
//
// Lifetime: interpreters and models must outlive the Trainer. After another AllocateTensors() of your own trainable
// interpreter, its weights are those in flash again: call Init again, or Bind. SharedArenaModel does so by itself.
#ifndef TINYTRAIN_TFLM_H_
#define TINYTRAIN_TFLM_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>

#include "tinytrain.h"

namespace tinytrain {

constexpr std::size_t kMaxStored = 9;  // outputs of frozen.tflite: the trainable part's input, and maps

// The bytes of an int8 tensor.
struct Int8Tensor {
  std::int8_t* data;
  std::size_t num_bytes;
};

// An interpreter whose tensors can be reached, and whose constant tensors can be moved to RAM. It uses no TfLiteTensor, and so
// neither input() nor output(): that struct has two layouts, depending on whether TF_LITE_STATIC_MEMORY was defined when the
// library was compiled. TfLiteEvalTensor has one.
//
// An operator whose weights are moved must not cache values derived from them: convolution and depthwise convolution never do,
// fully connected does on cores with MVE (Cortex-M55, M85) only.
template <class Interpreter>
class BindableInterpreter : public Interpreter {
 public:
  using Interpreter::Interpreter;

  // Makes the next Invoke read tensor `tensor_index` from `data`. Call it after AllocateTensors.
  bool Bind(std::int32_t tensor_index, const void* data) {
    auto* tensor = EvalTensor(tensor_index);
    if (tensor == nullptr) return false;
    tensor->data.data = const_cast<void*>(data);
    return true;
  }

  // Empty, {nullptr, 0}, before AllocateTensors.
  Int8Tensor Input() const { return Bytes(this->inputs().Get(0)); }
  Int8Tensor Output(std::size_t i) const { return Bytes(this->outputs().Get(static_cast<std::uint32_t>(i))); }

  // Copies the input, unless it is in its place already, and runs. False: the interpreter failed.
  bool InvokeWith(const std::int8_t* input) {
    const Int8Tensor place = Input();
    if (place.data == nullptr) return false;
    if (place.data != input) std::memcpy(place.data, input, place.num_bytes);
    return static_cast<int>(this->Invoke()) == 0;  // kTfLiteOk
  }

  std::size_t OutputBytes() const {
    std::size_t num_bytes = 0;
    for (std::size_t i = 0; i < this->outputs_size(); ++i) num_bytes += Output(i).num_bytes;
    return num_bytes;
  }

  // Brings the outputs together, one after the other, in memory that holds them; they are lost in their own places. False:
  // there are too many, or they have no memory.
  bool GatherOutputs(Int8Tensor* all) {
    const std::size_t num_outputs = this->outputs_size();
    if (num_outputs == 0 || num_outputs > kMaxStored) return false;
    Int8Tensor parts[kMaxStored];
    std::size_t by_address[kMaxStored];
    for (std::size_t i = 0; i < num_outputs; ++i) {
      parts[i] = Output(i);
      if (parts[i].data == nullptr) return false;
      std::size_t at = i;
      for (; at > 0 && parts[by_address[at - 1]].data > parts[i].data; --at) by_address[at] = by_address[at - 1];
      by_address[at] = i;
    }
    *all = {parts[by_address[0]].data, 0};
    for (std::size_t n = 0; n < num_outputs; ++n) {  // down to the lowest of them
      Int8Tensor& part = parts[by_address[n]];
      std::memmove(all->data + all->num_bytes, part.data, part.num_bytes);
      part.data = all->data + all->num_bytes;
      all->num_bytes += part.num_bytes;
    }
    std::int8_t* place = all->data;
    for (std::size_t i = 0; i < num_outputs; ++i) {  // each to its place, before those that stand there
      const Int8Tensor part = parts[i];
      std::rotate(place, part.data, part.data + part.num_bytes);
      for (std::size_t j = i + 1; j < num_outputs; ++j) {
        if (parts[j].data < part.data) parts[j].data += part.num_bytes;
      }
      place += part.num_bytes;
    }
    return true;
  }

  // The addresses of the outputs.
  bool FindOutputs(const std::int8_t** outputs) const {
    const std::size_t num_outputs = this->outputs_size();
    if (num_outputs > static_cast<std::size_t>(kMaxOutputs)) return false;
    for (std::size_t i = 0; i < num_outputs; ++i) outputs[i] = Output(i).data;
    return true;
  }

 private:
  auto EvalTensor(std::int32_t index) const {
    const auto& context = this->context();
    using Found = decltype(context.GetEvalTensor(&context, index));
    return context.GetEvalTensor == nullptr ? Found{} : context.GetEvalTensor(&context, index);
  }
  Int8Tensor Bytes(std::int32_t index) const {
    const auto* tensor = EvalTensor(index);
    if (tensor == nullptr || tensor->dims == nullptr) return {nullptr, 0};
    std::size_t num_bytes = 1;
    for (int i = 0; i < tensor->dims->size; ++i) num_bytes *= static_cast<std::size_t>(tensor->dims->data[i]);
    return {static_cast<std::int8_t*>(tensor->data.data), num_bytes};
  }
};

// The Model of a frozen and a trainable interpreter, both allocated.
template <class Interpreter>
class InterpreterModel {
 public:
  using Bindable = BindableInterpreter<Interpreter>;

  // `frozen` may be nullptr: images are the trainable part's input then.
  InterpreterModel(Bindable* frozen, Bindable* trainable) : frozen_(frozen), trainable_(trainable) {}

  Model model() { return {this, frozen_ == nullptr ? nullptr : &RunFrozen, &RunTrainable, &BindTensor}; }

 private:
  static bool RunFrozen(void* context, const std::int8_t* image, std::int8_t* features) {
    auto* self = static_cast<InterpreterModel*>(context);
    Int8Tensor stored;
    if (!self->frozen_->InvokeWith(image)) return false;
    if (self->frozen_->Output(0).num_bytes != self->trainable_->Input().num_bytes) return false;
    if (!self->frozen_->GatherOutputs(&stored)) return false;
    std::memcpy(features, stored.data, stored.num_bytes);
    return true;
  }
  static bool RunTrainable(void* context, const std::int8_t* features, const std::int8_t** outputs) {
    auto* trainable = static_cast<InterpreterModel*>(context)->trainable_;
    return trainable->InvokeWith(features) && trainable->FindOutputs(outputs);
  }
  static bool BindTensor(void* context, std::int32_t tensor_index, const void* data, std::size_t) {
    return static_cast<InterpreterModel*>(context)->trainable_->Bind(tensor_index, data);
  }

  Bindable* frozen_;
  Bindable* trainable_;
};

// The Model of two flatbuffers whose interpreters take turns in one arena with the trainer's scratch:
//   frozen part:     [ frozen interpreter ...................... | image ]   its output, after its end:    [ features ... ]
//   trainable part:  [ trainable interpreter ... | scratch ............... ]                   in the scratch's first bytes
// Each switch costs an AllocateTensors (some 3 million instructions for a network of 60 layers). A sample that is predicted or
// taught takes one or two, views that go to flash take one together, Train takes none.
// kNumBindings: number of trained kernels and biases, in the generated tables.h.
template <class Interpreter, class Flatbuffer, class Resolver, int kNumBindings>
class SharedArenaModel {
 public:
  // `frozen` may be nullptr: images are the trainable part's input then. The arena and its size must be aligned to 16 bytes.
  // `scratch_bytes` and `image_bytes` are MemoryParts::scratch and ::image; 0: the trainer's scratch lies elsewhere.
  SharedArenaModel(const Flatbuffer* frozen, const Flatbuffer* trainable, const Resolver& resolver, std::uint8_t* arena,
                   std::size_t arena_bytes, std::size_t scratch_bytes = 0, std::size_t image_bytes = 0)
      : frozen_(frozen),
        trainable_(trainable),
        resolver_(resolver),
        arena_(arena),
        arena_bytes_(arena_bytes),
        scratch_bytes_(scratch_bytes),
        image_bytes_(image_bytes) {}
  ~SharedArenaModel() { Close(); }
  SharedArenaModel(const SharedArenaModel&) = delete;
  SharedArenaModel& operator=(const SharedArenaModel&) = delete;

  // Allocates one after the other. False: the arena is too small, an operator is missing, or the frozen part's first output has
  // another size than the trainable part's input. Call it before any run, and before model().
  bool Check() {
    if (scratch_bytes_ >= arena_bytes_ || image_bytes_ > scratch_bytes_) return false;
    if (!Open(trainable_)) return false;
    const std::size_t input_bytes = interpreter_->Input().num_bytes;
    if (frozen_ == nullptr) return true;
    if (!Open(frozen_) || interpreter_->Output(0).num_bytes != input_bytes) return false;
    stored_bytes_ = interpreter_->OutputBytes();
    return true;
  }

  Model model() {
    std::uint8_t* scratch = scratch_bytes_ == 0 ? nullptr : arena_ + (arena_bytes_ - scratch_bytes_);
    Model model = {this, nullptr, &RunTrainable, &BindTensor, &OpenTrainable, nullptr, scratch, scratch_bytes_, stored_bytes_};
    if (frozen_ != nullptr) {
      model.run_frozen = &RunFrozen;
      model.frozen_input = &FrozenInput;
      model.run_frozen_in_place = &RunFrozenInPlace;
    }
    return model;
  }

 private:
  using Bindable = BindableInterpreter<Interpreter>;
  struct Binding {
    std::int32_t tensor_index;
    const void* data;
  };

  void Close() {
    if (interpreter_ != nullptr) interpreter_->~Bindable();
    interpreter_ = nullptr;
    open_ = nullptr;
  }
  bool Open(const Flatbuffer* flatbuffer) {
    if (open_ == flatbuffer) return true;
    Close();
    const std::size_t bytes = arena_bytes_ - (flatbuffer == trainable_ ? scratch_bytes_ : image_bytes_);
    interpreter_ = new (storage_) Bindable(flatbuffer, resolver_, arena_, bytes);  // in place: no heap
    if (static_cast<int>(interpreter_->AllocateTensors()) != 0) return false;
    for (int i = 0; flatbuffer == trainable_ && i < num_bindings_; ++i) {
      if (!interpreter_->Bind(bindings_[i].tensor_index, bindings_[i].data)) return false;
    }
    open_ = flatbuffer;
    return true;
  }
  // A null pointer where the interpreter failed.
  Int8Tensor StoredSample(const std::int8_t* image) {
    Int8Tensor stored{nullptr, 0};
    const bool has_run = Open(frozen_) && interpreter_->InvokeWith(image) && interpreter_->GatherOutputs(&stored);
    return has_run ? stored : Int8Tensor{nullptr, 0};
  }
  static bool RunFrozen(void* context, const std::int8_t* image, std::int8_t* features) {
    auto* self = static_cast<SharedArenaModel*>(context);
    const Int8Tensor stored = self->StoredSample(image);
    if (stored.data == nullptr) return false;
    if (self->Holds(features)) self->Close();  // the interpreter's own structs lie there
    std::memmove(features, stored.data, stored.num_bytes);
    return true;
  }
  static const std::int8_t* RunFrozenInPlace(void* context, const std::int8_t* image) {
    return static_cast<SharedArenaModel*>(context)->StoredSample(image).data;
  }
  static std::int8_t* FrozenInput(void* context) {
    auto* self = static_cast<SharedArenaModel*>(context);
    return self->Open(self->frozen_) ? self->interpreter_->Input().data : nullptr;
  }
  bool Holds(const void* data) const {
    const auto at = reinterpret_cast<std::uintptr_t>(data), begin = reinterpret_cast<std::uintptr_t>(arena_);
    return at >= begin && at < begin + arena_bytes_;
  }
  static bool OpenTrainable(void* context) {
    auto* self = static_cast<SharedArenaModel*>(context);
    return self->Open(self->trainable_);
  }
  static bool RunTrainable(void* context, const std::int8_t* features, const std::int8_t** outputs) {
    auto* self = static_cast<SharedArenaModel*>(context);
    return self->Open(self->trainable_) && self->interpreter_->InvokeWith(features) && self->interpreter_->FindOutputs(outputs);
  }
  static bool BindTensor(void* context, std::int32_t tensor_index, const void* data, std::size_t) {
    auto* self = static_cast<SharedArenaModel*>(context);
    int i = 0;
    while (i < self->num_bindings_ && self->bindings_[i].tensor_index != tensor_index) ++i;
    if (i == kNumBindings) return false;
    self->bindings_[i] = {tensor_index, data};
    if (i == self->num_bindings_) ++self->num_bindings_;
    return self->open_ != self->trainable_ || self->interpreter_->Bind(tensor_index, data);  // else Open binds
  }

  const Flatbuffer* frozen_;
  const Flatbuffer* trainable_;
  const Resolver& resolver_;
  std::uint8_t* arena_;
  std::size_t arena_bytes_;
  std::size_t scratch_bytes_;
  std::size_t image_bytes_;
  std::size_t stored_bytes_ = 0;
  alignas(Bindable) unsigned char storage_[sizeof(Bindable)];
  Bindable* interpreter_ = nullptr;
  const Flatbuffer* open_ = nullptr;
  Binding bindings_[kNumBindings];
  int num_bindings_ = 0;
};

}  // namespace tinytrain

#endif  // TINYTRAIN_TFLM_H_
