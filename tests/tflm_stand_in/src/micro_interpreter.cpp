// Like TensorFlow Lite Micro: one arena, whose head holds tensors and scratch by their lifetimes and whose tail holds what
// lasts.
#include "tensorflow/lite/micro/micro_interpreter.h"

#include <cstring>

#include "operators.h"

extern "C" void DebugLog(const char* text);  // of the board's core, as Arduino's library has it

namespace tflite {
namespace {

constexpr std::size_t kOwnBytes = 128;  // of an allocator and a planner, which lie in the arena's tail

// A tensor or scratch in the arena's head, alive from operator `first` to operator `last`. The list of them lies in the arena
// while it is planned, and is as large as TensorFlow Lite Micro's two lists are.
struct Block {
  std::size_t num_bytes, offset;
  std::uint32_t first, last;
  std::int8_t** place;
  std::int32_t planned[12];
};

// A static object with a destructor, as a library may well have.
struct Failures {
  ~Failures() { count = 0; }
  volatile int count = 0;
};
Failures& failures() {
  static Failures all;
  return all;
}

std::size_t Aligned(std::size_t num_bytes) { return (num_bytes + 15) / 16 * 16; }

std::size_t Bytes(const TfLiteEvalTensor& tensor) {
  std::size_t num_bytes = tensor.type == kTfLiteInt32 ? 4 : 1;
  for (int i = 0; i < tensor.dims->size; ++i) num_bytes *= static_cast<std::size_t>(tensor.dims->data[i]);
  return num_bytes;
}

// The lowest offset at which `block` meets no block that was placed before and lives at the same time.
std::size_t Place(const Block* blocks, std::uint32_t num_placed, const Block& block) {
  std::size_t offset = 0;
  for (std::uint32_t i = 0; i < num_placed; ++i) {
    const Block& other = blocks[i];
    const bool together = other.first <= block.last && block.first <= other.last;
    const bool meets = other.offset < offset + block.num_bytes && offset < other.offset + other.num_bytes;
    if (!together || !meets) continue;
    offset = other.offset + other.num_bytes;
    i = static_cast<std::uint32_t>(-1);  // compare with all again
  }
  return offset;
}

TfLiteEvalTensor* GetEvalTensor(const TfLiteContext* context, int index) {
  auto* tensors = *static_cast<TfLiteEvalTensor**>(context->impl_);
  return tensors == nullptr ? nullptr : tensors + index;
}

}  // namespace

MicroInterpreter::MicroInterpreter(const Model* model, const MicroOpResolver& resolver, std::uint8_t* arena,
                                   std::size_t arena_bytes)
    : model_(model), resolver_(resolver), context_{&GetEvalTensor, &tensors_}, arena_(arena), arena_bytes_(arena_bytes) {
  std::memset(Persistent(kOwnBytes), 0, kOwnBytes);  // unchecked, as in TensorFlow Lite Micro: a fault at address 0
}
MicroInterpreter::~MicroInterpreter() { tensors_ = nullptr; }

void* MicroInterpreter::Persistent(std::size_t num_bytes) {
  if (head_bytes_ + tail_bytes_ + Aligned(num_bytes) > arena_bytes_) {
    failures().count = failures().count + 1;
    DebugLog("Failed to allocate tail memory.\n");
    return nullptr;
  }
  tail_bytes_ += Aligned(num_bytes);
  return arena_ + (arena_bytes_ - tail_bytes_);
}

TfLiteStatus MicroInterpreter::AllocateTensors() {
  if (!MakeTensors() || !MakeOperators() || !PlanTensors()) return kTfLiteError;
  tensors_allocated_ = MakePublic(inputs(), &inputs_) && MakePublic(outputs(), &outputs_);
  return tensors_allocated_ ? kTfLiteOk : kTfLiteError;
}

TfLiteStatus MicroInterpreter::Invoke() {
  if (!tensors_allocated_) return kTfLiteError;
  for (std::uint32_t i = 0; i < graph().operators()->size(); ++i) Run(graph(), tensors_, operators_[i]);
  return kTfLiteOk;
}

TfLiteTensor* MicroInterpreter::input(std::size_t index) { return inputs_ + index; }
TfLiteTensor* MicroInterpreter::output(std::size_t index) { return outputs_ + index; }

bool MicroInterpreter::MakeTensors() {
  const std::uint32_t count = graph().tensors()->size();
  tensors_ = static_cast<TfLiteEvalTensor*>(Persistent(count * sizeof(TfLiteEvalTensor)));
  if (tensors_ == nullptr) return false;
  static TfLiteIntArray scalar = {0, {0}};
  for (std::uint32_t i = 0; i < count; ++i) {
    const Tensor& tensor = *graph().tensors()->Get(i);
    const auto* data = model_->buffers()->Get(tensor.buffer())->data();
    const auto* shape = reinterpret_cast<const TfLiteIntArray*>(tensor.shape());
    tensors_[i].data.data = data == nullptr ? nullptr : const_cast<std::uint8_t*>(data->data());
    tensors_[i].dims = shape == nullptr ? &scalar : const_cast<TfLiteIntArray*>(shape);
    tensors_[i].type = static_cast<TfLiteType>(tensor.type());
  }
  return true;
}

bool MicroInterpreter::MakeOperators() {
  const Vector<Operator>& all = *graph().operators();
  operators_ = static_cast<OperatorData*>(Persistent(all.size() * sizeof(OperatorData)));
  for (std::uint32_t i = 0; operators_ != nullptr && i < all.size(); ++i) {
    OperatorData& data = operators_[i];
    data = {{},      {},      {},     all.Get(i), model_->operator_codes()->Get(all.Get(i)->opcode_index())->builtin_code(),
            nullptr, nullptr, nullptr};
    if (!resolver_.Has(data.code)) return false;
    if (!IsConvolution(data.code)) continue;
    const int channels = OutputChannels(tensors_, data);
    auto* factors = static_cast<std::int32_t*>(Persistent(static_cast<std::size_t>(2 * channels) * sizeof(std::int32_t)));
    if (factors == nullptr) return false;
    data.multipliers = factors;
    data.shifts = factors + channels;
    SetFactors(graph(), data, channels);
  }
  return operators_ != nullptr;
}

bool MicroInterpreter::IsActivation(std::uint32_t tensor) const {
  const auto* data = model_->buffers()->Get(graph().tensors()->Get(tensor)->buffer())->data();
  return data == nullptr || data->size() == 0;
}

// From the operator that writes a tensor to the last one that reads it; of the graph's input and outputs, to its ends.
void MicroInterpreter::Lifetime(std::uint32_t tensor, std::uint32_t* first, std::uint32_t* last) const {
  const auto has = [tensor](const Vector<std::int32_t>& indices) {
    for (std::uint32_t i = 0; i < indices.size(); ++i) {
      if (indices.Get(i) == static_cast<std::int32_t>(tensor)) return true;
    }
    return false;
  };
  const std::uint32_t count = graph().operators()->size();
  *first = *last = 0;
  for (std::uint32_t i = 0; i < count; ++i) {
    const Operator& op = *graph().operators()->Get(i);
    if (has(*op.outputs())) *first = *last = i;
    if (has(*op.inputs())) *last = i;
  }
  if (has(outputs())) *last = count;
}

// The largest first, each at the lowest offset that is free.
bool MicroInterpreter::PlanTensors() {
  auto* blocks = reinterpret_cast<Block*>(arena_);
  std::uint32_t count = 0;
  const auto add = [&](std::size_t num_bytes, std::uint32_t first, std::uint32_t last, std::int8_t** place) {
    if ((count + 1) * sizeof(Block) + tail_bytes_ > arena_bytes_) return false;
    std::uint32_t i = count++;
    for (; i > 0 && blocks[i - 1].num_bytes < num_bytes; --i) blocks[i] = blocks[i - 1];
    blocks[i] = {Aligned(num_bytes), 0, first, last, place};
    return true;
  };
  for (std::uint32_t i = 0, first = 0, last = 0; i < graph().tensors()->size(); ++i) {
    if (!IsActivation(i)) continue;
    Lifetime(i, &first, &last);
    if (!add(Bytes(tensors_[i]), first, last, &tensors_[i].data.int8)) return false;
  }
  for (std::uint32_t i = 0; i < graph().operators()->size(); ++i) {
    const std::size_t scratch = ScratchBytes(tensors_, operators_[i]);
    if (scratch > 0 && !add(scratch, i, i, &operators_[i].scratch)) return false;
  }
  for (std::uint32_t i = 0; i < count; ++i) {
    blocks[i].offset = Place(blocks, i, blocks[i]);
    *blocks[i].place = reinterpret_cast<std::int8_t*>(arena_ + blocks[i].offset);
    const std::size_t end = blocks[i].offset + blocks[i].num_bytes;
    head_bytes_ = end > head_bytes_ ? end : head_bytes_;
  }
  return head_bytes_ + tail_bytes_ <= arena_bytes_;
}

// A TfLiteTensor of each, in this library's layout.
bool MicroInterpreter::MakePublic(const Vector<std::int32_t>& indices, TfLiteTensor** tensors) {
  *tensors = static_cast<TfLiteTensor*>(Persistent(indices.size() * sizeof(TfLiteTensor)));
  for (std::uint32_t i = 0; *tensors != nullptr && i < indices.size(); ++i) {
    const TfLiteEvalTensor& from = tensors_[indices.Get(i)];
    TfLiteTensor& to = (*tensors)[i];
    std::memset(&to, 0, sizeof(to));
    to.data = from.data;
    to.dims = from.dims;
    to.bytes = Bytes(from);
    to.type = from.type;
    to.allocation_type = kTfLiteArenaRw;
  }
  return *tensors != nullptr;
}

}  // namespace tflite
