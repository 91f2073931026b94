// The bundle of this firmware, under fixed names. The build defines BUNDLE, the bundle's namespace,
// NAME, the same as a text, and IMAGE_BYTES, the size of one input.
#ifndef TINYTRAIN_FIRMWARE_BUNDLE_H_
#define TINYTRAIN_FIRMWARE_BUNDLE_H_

#include "models.h"
#include "tables.h"
#include "tinytrain.h"

namespace exported = BUNDLE;

// The one arena in which the models take turns.
extern std::uint8_t model_arena[exported::kModelArenaBytes];

// Forward passes over `model_arena`: by TensorFlow Lite Micro (model_tflm.cpp), or by asking the host (model_on_host.cpp).
bool OpenModel(tinytrain::Model* model);

#endif  // TINYTRAIN_FIRMWARE_BUNDLE_H_
