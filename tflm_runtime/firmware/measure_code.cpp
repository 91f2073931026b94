// A program with TensorFlow Lite Micro's interpreter, the operators that RESOLVER adds, NUM_OPERATORS of them, and nothing
// else: to be linked and measured, not to be run.
#include <tensorflow/lite/micro/micro_interpreter.h>
#include <tensorflow/lite/micro/micro_mutable_op_resolver.h>
#include <tensorflow/lite/schema/schema_generated.h>

#include <cstdint>

// TensorFlow Lite Micro lives in one of these namespaces, depending on its age.
namespace tflite {
namespace micro {}
}  // namespace tflite
using namespace tflite;
using namespace tflite::micro;

int main() {
  alignas(16) static std::uint8_t arena[1024];
  static MicroMutableOpResolver<NUM_OPERATORS> resolver;
  RESOLVER
  MicroInterpreter interpreter(GetModel(arena), resolver, arena, sizeof(arena));
  if (static_cast<int>(interpreter.AllocateTensors()) != 0 || static_cast<int>(interpreter.Invoke()) != 0) return 1;
  return interpreter.input(0)->data.int8 == interpreter.output(0)->data.int8 ? 0
                                                                             : static_cast<int>(interpreter.arena_used_bytes());
}
