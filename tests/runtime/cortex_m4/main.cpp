// Trains on an emulated Cortex-M4F, with the forward passes of a host run played back, and prints every bit that came of it.
#include <cstdint>
#include <cstring>

#include "board.h"
#include "recording.h"  // written by the test: kImages, kLabels, kCalls, kNumOutputs, kOutputBytes, kArenaBytes, settings
#include "tinytrain.h"

extern "C" const void* tinytrain_tables();

namespace {

void PrintBytes(const char* name, const void* data, std::size_t count) {
  static const char kDigits[] = "0123456789abcdef";
  const auto* bytes = static_cast<const std::uint8_t*>(data);
  char text[3] = {0, 0, 0};
  board::Print(name);
  board::Print(" ");
  for (std::size_t i = 0; i < count; ++i) {
    text[0] = kDigits[bytes[i] >> 4];
    text[1] = kDigits[bytes[i] & 15];
    board::Print(text);
  }
  board::Print("\n");
}

void Require(tinytrain::Status status) {
  if (status == tinytrain::Status::kOk) return;
  board::Print(tinytrain::StatusText(status));
  board::Print("\n");
  board::Exit(false);
}

// ---- the model, played back ----------------------------------------------------------------------------------------------

struct Playback {
  std::int32_t call = 0;
};

bool RunTrainable(void* context, const std::int8_t* features, const std::int8_t** outputs) {
  auto* playback = static_cast<Playback*>(context);
  if (playback->call >= kNumCalls) return false;
  const std::int8_t* recorded = kCalls[playback->call++];
  if (std::memcmp(features, recorded, kFeatureBytes) != 0) return false;
  recorded += kFeatureBytes;
  for (std::int32_t i = 0; i < kNumOutputs; recorded += kOutputBytes[i++]) outputs[i] = recorded;
  return true;
}

bool Bind(void*, std::int32_t, const void*, std::size_t) { return true; }

alignas(16) std::uint8_t arena[kArenaBytes];
std::uint8_t delta[4096];

}  // namespace

int main() {
  const auto& tables = *static_cast<const tinytrain::Tables*>(tinytrain_tables());
  static tinytrain::Trainer trainer;
  Playback playback;
  Require(trainer.Init(tables, tables.training, {&playback, nullptr, &RunTrainable, &Bind}, arena, sizeof(arena)));
  for (std::int32_t i = 0; i < kNumImages; ++i) Require(trainer.AddSample(kImages[i], kLabels[i]));
  for (std::int32_t i = 0; i < tables.training.iterations; ++i) {
    float loss = 0.0f;
    Require(trainer.Step(&loss));
    PrintBytes("loss", &loss, sizeof(loss));
  }
  Require(trainer.UpdatePrototypes());
  const tinytrain::Buffers& buffers = trainer.buffers();
  PrintBytes("masters", buffers.masters, buffers.masters == nullptr ? 0 : buffers.num_weights * sizeof(float));
  PrintBytes("gradients", buffers.weight_gradients, buffers.num_weights * sizeof(float));
  std::size_t written = 0;
  Require(trainer.SaveDelta(1, delta, sizeof(delta), &written));
  PrintBytes("delta", delta, written);
  float logits[16];
  Require(trainer.Predict(kImages[0], logits, nullptr));
  PrintBytes("logits", logits, static_cast<std::size_t>(tables.training.num_classes) * sizeof(float));
  return 0;
}
