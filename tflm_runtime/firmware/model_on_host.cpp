// Forward passes on the host, for machines without a TensorFlow Lite Micro for Cortex-M. The host runs the same models with the
// board's trained weights, which are sent with each request. All other work is the board's.
#include "board.h"
#include "bundle.h"
#include "tinytrain/memory/memory.h"

namespace {

struct Binding {
  std::int32_t tensor_index;
  std::uint32_t num_bytes;
  const void* data;
};
Binding bindings[exported::kNumBindings];
int num_bindings;

bool Ask(char request, const void* input, std::size_t num_bytes) {
  return board::Write(&request, 1) && board::Write(input, num_bytes);
}

std::size_t Elements(const tinytrain::Tensor& tensor) {
  return static_cast<std::size_t>(tensor.height) * static_cast<std::size_t>(tensor.width) *
         static_cast<std::size_t>(tensor.channels);
}

#ifdef FROZEN
// 'f', image -> features
bool RunFrozen(void*, const std::int8_t* image, std::int8_t* features) {
  return Ask('f', image, IMAGE_BYTES) &&
         board::Read(features, static_cast<std::size_t>(tinytrain::NumStored(exported::kTables)));
}

// The image's place: in the arena, as with TensorFlow Lite Micro.
std::int8_t* FrozenInput(void*) {
  static_assert(IMAGE_BYTES + exported::kViewBytes <= sizeof(model_arena), "the frozen part's arena holds its input");
  return reinterpret_cast<std::int8_t*>(model_arena);
}
#endif

// 't', features, trained kernels and biases in the order of their bindings -> outputs, which lie in the models' arena, below
// the trainer's scratch
bool RunTrainable(void*, const std::int8_t* features, const std::int8_t** outputs) {
  const tinytrain::Tables& tables = exported::kTables;
  if (!Ask('t', features, Elements(tables.tensors[0]))) return false;
  for (int i = 0; i < num_bindings; ++i) {
    if (!board::Write(bindings[i].data, bindings[i].num_bytes)) return false;
  }
  std::size_t used = 0;
  for (std::int32_t output = 0; output < tables.num_outputs; ++output) {
    std::int32_t t = 0;
    while (t < tables.num_tensors && tables.tensors[t].kept != output) ++t;
    if (t == tables.num_tensors) return false;
    const std::size_t num_bytes = Elements(tables.tensors[t]);
    const bool fits = used + num_bytes <= sizeof(model_arena) - exported::kScratchBytes;
    if (!fits || !board::Read(model_arena + used, num_bytes)) return false;
    outputs[output] = reinterpret_cast<const std::int8_t*>(model_arena + used);
    used += num_bytes;
  }
  return true;
}

// 'b', tensor index and bytes as uint32: the host will be sent this tensor. A tensor that is bound again is not announced
// again.
bool Bind(void*, std::int32_t tensor_index, const void* data, std::size_t num_bytes) {
  for (int i = 0; i < num_bindings; ++i) {
    if (bindings[i].tensor_index != tensor_index) continue;
    bindings[i].data = data;
    return bindings[i].num_bytes == num_bytes;
  }
  if (num_bindings == exported::kNumBindings) return false;
  Binding& binding = bindings[num_bindings++];
  binding = {tensor_index, static_cast<std::uint32_t>(num_bytes), data};
  return Ask('b', &binding, 8);
}

}  // namespace

bool OpenModel(tinytrain::Model* model) {
  std::uint8_t* scratch = model_arena + (sizeof(model_arena) - exported::kScratchBytes);
  *model = {nullptr, nullptr, &RunTrainable, &Bind, nullptr, nullptr, scratch, exported::kScratchBytes};
#ifdef FROZEN
  model->run_frozen = &RunFrozen;
  model->frozen_input = &FrozenInput;
#endif
  return true;
}
