// Trains a bundle on an emulated Cortex-M4F; what its two models answered in a host run is read from a file. Prints every bit.
#include <cstdint>
#include <cstring>

#include "models.h"
#include "semihosting.h"
#include "tables.h"
#include "tinytrain.h"

// Set by the test: BUNDLE, RECORDING (a file), MAX_CALL_BYTES (of one call's answers), DELTA_BYTES.
namespace {

struct Replay {
  File file;
  std::int8_t* answers;
  std::int8_t* features;  // what a call was asked in the host run
};

bool RunFrozen(void* context, const std::int8_t*, std::int8_t* features) {
  return static_cast<Replay*>(context)->file.Read(features, tinytrain::NumElements(BUNDLE::kTables.tensors[0]));
}

bool RunTrainable(void* context, const std::int8_t* features, const std::int8_t** outputs) {
  auto* replay = static_cast<Replay*>(context);
  const tinytrain::Tables& tables = BUNDLE::kTables;
  const auto feature_bytes = static_cast<std::size_t>(tinytrain::NumElements(tables.tensors[0]));
  if (!replay->file.Read(replay->features, feature_bytes)) return false;
  if (std::memcmp(features, replay->features, feature_bytes) != 0) return false;
  std::int8_t* answer = replay->answers;
  for (std::int32_t i = 0; i < tables.num_outputs; ++i) {
    std::uint32_t num_bytes = 0;
    if (!replay->file.Read(&num_bytes, sizeof(num_bytes)) || !replay->file.Read(answer, num_bytes)) return false;
    outputs[i] = answer;
    answer += num_bytes;
  }
  return true;
}

bool Bind(void*, std::int32_t, const void*, std::size_t) { return true; }

alignas(16) std::uint8_t arena[BUNDLE::kTrainingArenaBytes];
std::int8_t answers[MAX_CALL_BYTES], features[FEATURE_BYTES], image[IMAGE_BYTES];
std::uint8_t delta[DELTA_BYTES];

void Main() {
  const tinytrain::Tables& tables = BUNDLE::kTables;
  static tinytrain::Trainer trainer;
  Replay replay = {File(RECORDING), answers, features};
  Require(trainer.Init(tables, tables.training, {&replay, &RunFrozen, &RunTrainable, &Bind}, arena, sizeof(arena)));
  for (std::int32_t i = 0; i < tables.training.max_samples; ++i) {
    Require(trainer.AddSample(image, i % tables.training.num_classes));
  }
  for (std::int32_t i = 0; i < tables.training.iterations; ++i) {
    float loss = 0.0f;
    Require(trainer.Step(&loss));
    PrintBytes("loss", &loss, sizeof(loss));
  }
  Require(trainer.UpdatePrototypes());
  const tinytrain::Buffers& buffers = trainer.buffers();
  PrintBytes("masters", buffers.masters, buffers.num_weights * sizeof(float));
  PrintBytes("gradients", buffers.weight_gradients, buffers.num_weights * sizeof(float));
  std::size_t written = 0;
  Require(trainer.SaveDelta(1, delta, sizeof(delta), &written));
  PrintBytes("delta", delta, written);
}

}  // namespace
