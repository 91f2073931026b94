// Forward passes by TensorFlow Lite Micro, on the board. The build defines RESOLVER, the bundle's operators.
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

bool OpenModel(tinytrain::Model* model) {
  static MicroMutableOpResolver<32> resolver;
  RESOLVER
  using Models = tinytrain::SharedArenaModel<MicroInterpreter, Model, decltype(resolver), exported::kNumBindings>;
#ifdef FROZEN
  const Model* frozen = GetModel(exported::g_frozen_model_data);
#else
  const Model* frozen = nullptr;
#endif
  static Models models(frozen, GetModel(exported::g_trainable_model_data), resolver, model_arena, sizeof(model_arena),
                       exported::kScratchBytes, exported::kViewBytes);
  *model = models.model();
  return models.Check();
}
