// The bundle of this firmware, under fixed names. The build defines BUNDLE, the bundle's namespace,
// NAME, the same as a text, IMAGE_BYTES, the size of one input, and MODEL_ARENA_BYTES.
#ifndef TINYTRAIN_FIRMWARE_BUNDLE_H_
#define TINYTRAIN_FIRMWARE_BUNDLE_H_

#include "models.h"
#include "tables.h"
#include "tinytrain.h"

namespace exported = BUNDLE;

// The one arena in which the models take turns.
extern std::uint8_t model_arena[MODEL_ARENA_BYTES];

// Forward passes over `model_arena`: by TensorFlow Lite Micro (model_tflm.cpp), or by asking the host (model_on_host.cpp).
bool OpenModel(tinytrain::Model* model);

// With TensorFlow Lite Micro: the smallest arena in which a model of the bundle opens, in bytes; 0: `model_arena` is too small.
std::size_t SmallestArena(const void* model_file);

#endif  // TINYTRAIN_FIRMWARE_BUNDLE_H_
