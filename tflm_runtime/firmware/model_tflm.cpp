// Forward passes by TensorFlow Lite Micro, on the board. The build defines RESOLVER, which adds the bundle's operators, and
// NUM_OPERATORS, their number.
#include <tensorflow/lite/micro/micro_interpreter.h>
#include <tensorflow/lite/micro/micro_mutable_op_resolver.h>
#include <tensorflow/lite/schema/schema_generated.h>

#include "bundle.h"
#include "tinytrain_tflm.h"

// TensorFlow Lite Micro lives in one of these namespaces, depending on its age.
namespace tflite {
namespace micro {}
}  // namespace tflite
using namespace tflite;
using namespace tflite::micro;

namespace {

using Resolver = MicroMutableOpResolver<NUM_OPERATORS>;

const Resolver& Operators() {
  static Resolver resolver;
  static const bool added = [] {
    RESOLVER
    return true;
  }();
  static_cast<void>(added);
  return resolver;
}

// The bytes of `arena_bytes` that a model uses; 0: they do not suffice.
std::size_t UsedOf(std::size_t arena_bytes, const Model* model) {
  MicroInterpreter interpreter(model, Operators(), model_arena, arena_bytes);
  return static_cast<int>(interpreter.AllocateTensors()) == 0 ? interpreter.arena_used_bytes() : 0;
}

}  // namespace

bool OpenModel(tinytrain::Model* model) {
  using Models = tinytrain::SharedArenaModel<MicroInterpreter, Model, Resolver, exported::kNumBindings>;
#ifdef FROZEN
  const Model* frozen = GetModel(exported::g_frozen_model_data);
#else
  const Model* frozen = nullptr;
#endif
  static Models models(frozen, GetModel(exported::g_trainable_model_data), Operators(), model_arena, sizeof(model_arena),
                       exported::kScratchBytes, exported::kViewBytes);
  const bool is_open = models.Check();
  *model = models.model();
  return is_open;
}

// To plan the tensors takes room of its own, so that an arena of the bytes in use may be a little too small.
std::size_t SmallestArena(const void* model_file) {
  constexpr std::size_t kStep = 16;
  const Model* model = GetModel(model_file);
  std::size_t bytes = (UsedOf(sizeof(model_arena), model) + kStep - 1) / kStep * kStep;
  while (bytes > 0 && bytes < sizeof(model_arena) && UsedOf(bytes, model) == 0) bytes += kStep;
  return bytes;
}
