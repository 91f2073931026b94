// Includes TensorFlow Lite Micro, whichever the build has, and tinytrain_tflm.h. Sketches and other programs of a bundle do so.
//
// The Arduino IDE finds a library by a line that includes its header, and for it this file names Chirale_TensorFlowLite.h. If
// you have another library, its own line at the top of the sketch goes before: menu Sketch > Include Library writes it.
// PlatformIO reads all lines below. ESP-IDF, Zephyr and CMake name their TensorFlow Lite Micro in the build.
#ifndef TINYTRAIN_WITH_TFLM_H_
#define TINYTRAIN_WITH_TFLM_H_

#if __has_include(<tensorflow/lite/micro/micro_interpreter.h>)
// The build has found one already.
#elif __has_include(<TensorFlowLite.h>)
#include <TensorFlowLite.h>  // tflite-micro-arduino-examples
#elif __has_include(<MicroTFLite.h>)
#include <MicroTFLite.h>
#else
#include <Chirale_TensorFlowLite.h>
#endif

#if !__has_include(<tensorflow/lite/micro/micro_log.h>)
#error \
    "This TensorFlow Lite Micro is too old, as that of Harvard_TinyMLx is: install Chirale_TensorFLowLite or MicroTFLite instead."
#endif

#include <tensorflow/lite/micro/micro_interpreter.h>
#include <tensorflow/lite/micro/micro_mutable_op_resolver.h>
#include <tensorflow/lite/schema/schema_generated.h>

#include "tinytrain_tflm.h"

// TensorFlow Lite Micro lives in one of these namespaces, depending on its age.
namespace tflite {
namespace micro {}
}  // namespace tflite

namespace tinytrain {
namespace tflm {
using namespace ::tflite;
using namespace ::tflite::micro;
}  // namespace tflm
}  // namespace tinytrain

#endif  // TINYTRAIN_WITH_TFLM_H_
