// A bundle over the real C++ TensorFlow Lite Micro: reads a task from a file, learns it, prints every bit that came of it.
//
// Compiled with -DBUNDLE=namespace -DRESOLVER="resolver.AddAdd(); ..." -DTFLM=the namespace of TensorFlow Lite Micro; with
// -DFROZEN where the bundle has a frozen part, with -DTWO_ARENAS for an arena of each part's own and one for all of the
// trainer, with -DFLASH where features are kept in flash, with -DCLOSED_FORM where the bundle has a closed-form head.
#include <tensorflow/lite/micro/micro_interpreter.h>
#include <tensorflow/lite/micro/micro_mutable_op_resolver.h>
#include <tensorflow/lite/schema/schema_generated.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <vector>

#include "models.h"
#include "tables.h"
#include "tinytrain.h"
#include "tinytrain_closed_form.h"
#include "tinytrain_tflm.h"

extern "C" __attribute__((weak)) void DebugLog(const char* text) { std::fputs(text, stderr); }

namespace {

using TFLM::MicroInterpreter;
using Bindable = tinytrain::BindableInterpreter<MicroInterpreter>;

constexpr std::size_t kOlderBytes = 4096;  // this TensorFlow Lite Micro's own structs are larger than those of the exporter's

using Resolver = TFLM::MicroMutableOpResolver<32>;

const TFLM::Model* FrozenModel() {
#ifdef FROZEN
  return TFLM::GetModel(BUNDLE::g_frozen_model_data);
#else
  return nullptr;
#endif
}
const TFLM::Model* TrainableModel() { return TFLM::GetModel(BUNDLE::g_trainable_model_data); }

#ifdef TWO_ARENAS
alignas(16) std::uint8_t training_arena[BUNDLE::kTrainingArenaBytes + BUNDLE::kScratchBytes];
alignas(16) std::uint8_t frozen_arena[BUNDLE::kModelArenaBytes + kOlderBytes];
alignas(16) std::uint8_t trainable_arena[BUNDLE::kTrainableArenaBytes + kOlderBytes];

bool Start(const Resolver& resolver, tinytrain::Model* model) {
  static Bindable frozen(FrozenModel(), resolver, frozen_arena, sizeof(frozen_arena));
  static Bindable trainable(TrainableModel(), resolver, trainable_arena, sizeof(trainable_arena));
  static tinytrain::InterpreterModel<MicroInterpreter> models(&frozen, &trainable);
  *model = models.model();
  if (frozen.AllocateTensors() != kTfLiteOk || trainable.AllocateTensors() != kTfLiteOk) return false;
  std::printf("arena %zu\n", trainable.arena_used_bytes());
  return true;
}
#else
alignas(16) std::uint8_t training_arena[BUNDLE::kTrainingArenaBytes];
alignas(16) std::uint8_t model_arena[BUNDLE::kModelArenaBytes + kOlderBytes];

bool Start(const Resolver& resolver, tinytrain::Model* model) {
  static tinytrain::SharedArenaModel<MicroInterpreter, TFLM::Model, Resolver, BUNDLE::kNumBindings> models(
      FrozenModel(), TrainableModel(), resolver, model_arena, sizeof(model_arena), BUNDLE::kScratchBytes, BUNDLE::kViewBytes);
  *model = models.model();
  return models.Check();
}
#endif

#ifdef FLASH
std::vector<std::uint8_t> flash(BUNDLE::kFeatureFlashBytes);

bool ErasePage(void*, std::size_t offset) {
  std::memset(flash.data() + offset, 0xff, BUNDLE::kFlashPageBytes);
  return true;
}
bool WriteFlashBlock(void*, std::size_t offset, const std::uint8_t* block) {
  for (std::size_t i = 0; i < tinytrain::kFlashBlockBytes; ++i) {
    flash[offset + i] = static_cast<std::uint8_t>(flash[offset + i] & block[i]);  // a write only clears bits
  }
  return true;
}
#endif

void PrintBytes(const char* name, const void* data, std::size_t count) {
  const auto* bytes = static_cast<const std::uint8_t*>(data);
  std::printf("%s ", name);
  for (std::size_t i = 0; i < count; ++i) std::printf("%02x", bytes[i]);
  std::printf("\n");
}

bool Failed(const char* what, tinytrain::Status status) {
  if (status != tinytrain::Status::kOk) std::printf("%s: %s\n", what, tinytrain::StatusText(status));
  return status != tinytrain::Status::kOk;
}

bool PrintLoss(void*, std::int32_t, float loss) {
  PrintBytes("loss", &loss, sizeof(loss));
  return true;
}

// Images, one label byte before each.
std::vector<std::int8_t> ReadAll(const char* path) {
  std::vector<std::int8_t> data;
  std::FILE* file = std::fopen(path, "rb");
  if (file == nullptr) return data;
  for (int byte = std::fgetc(file); byte != EOF; byte = std::fgetc(file)) data.push_back(static_cast<std::int8_t>(byte));
  std::fclose(file);
  return data;
}

// An image where the trainer wants it, if it does.
const std::int8_t* Placed(tinytrain::Trainer* trainer, const std::int8_t* image) {
  const tinytrain::Tables& tables = trainer->tables();
  std::int8_t* buffer = trainer->ImageBuffer();
  if (buffer == nullptr) return image;
  std::memcpy(buffer, image, static_cast<std::size_t>(tables.image_height * tables.image_width * tables.image_channels));
  return buffer;
}

bool PrintLogits(tinytrain::Trainer* trainer, const std::int8_t* image) {
  std::vector<float> logits(static_cast<std::size_t>(trainer->settings().num_classes));
  if (Failed("Predict", trainer->Predict(Placed(trainer, image), logits.data(), nullptr))) return false;
  PrintBytes("logits", logits.data(), logits.size() * sizeof(float));
  return true;
}

}  // namespace

int main(int, char** arguments) {
  const tinytrain::Tables& tables = BUNDLE::kTables;
  static Resolver resolver;
  RESOLVER
  static tinytrain::Trainer trainer;
  tinytrain::Model model;
  if (!Start(resolver, &model)) return 2;
  const tinytrain::Flash* sample_flash = nullptr;
#ifdef FLASH
  const tinytrain::Flash features = {nullptr,    flash.data(),    flash.size(), BUNDLE::kFlashPageBytes,
                                     &ErasePage, &WriteFlashBlock};
  sample_flash = &features;
#endif
  const auto ready = trainer.Init(tables, tables.training, model, training_arena, sizeof(training_arena), sample_flash);
  if (Failed("Init", ready)) return 4;
#ifdef CLOSED_FORM
  static tinytrain::ClosedForm head;
  alignas(16) static std::uint8_t head_memory[BUNDLE::kClosedFormBytes];
  if (Failed("ClosedForm::Init", head.Init(&trainer, BUNDLE::kMaps, head_memory, sizeof(head_memory)))) return 8;
#endif
  const auto image_bytes = static_cast<std::size_t>(tables.image_height * tables.image_width * tables.image_channels);
  const std::vector<std::int8_t> task = ReadAll(arguments[1]);
  for (std::size_t at = 0; at < task.size(); at += 1 + image_bytes) {
    if (Failed("AddSample", trainer.AddSample(Placed(&trainer, &task[at + 1]), task[at]))) return 5;
  }
  if (Failed("Train", trainer.Train(&PrintLoss, nullptr))) return 6;
  for (std::size_t at = 0; at < task.size(); at += 1 + image_bytes) {
    if (!PrintLogits(&trainer, &task[at + 1])) return 7;
  }
  std::vector<std::uint8_t> delta(trainer.DeltaBytes());
  std::size_t written = 0;
  if (Failed("SaveDelta", trainer.SaveDelta(7, delta.data(), delta.size(), &written))) return 8;
  PrintBytes("delta", delta.data(), written);
  return 0;
}
