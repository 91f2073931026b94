// A bundle's training on the emulated board: the host sends commands, the board does the work and counts instructions.
//
// A command is one byte and its operands. Numbers are little-endian, float32 or uint32. The answer is 'a', the Status as a
// byte, the number of bytes that follow, and these (a sentence if the status is not kOk). Before its answer the board may make
// requests of its own: 'f', 't', 'b' of model_on_host.cpp, and 'p', a loss, after each iteration.
//   'i' iterations          make a trainer with so many iterations; 0: as exported
//   's' label, image        keep a sample
//   'c' bytes, macs         choose the channels to train: bytes of the training arena, MACs of a backward pass; 0: no limit
//   'l'                     learn
//   'v'                     solve the closed-form head -> the scores of each sample by the solution without it
//   'x' label               forget the samples of a class, for the next 'v'
//   'p' image               -> logits
//   'y'                     -> familiarity of the last 'p' and its threshold
//   'd'                     -> delta; only 'r' and 'q' may follow, since the delta overwrites the models' RAM
//   'u'                     obey tinytrain_serial.h's commands on the serial port, until an end of transmission (4) comes there
//   'r'                     -> the figures below, as lines "name 0xvalue"
//   'q'                     end the run
#include <cstdint>

#include "board.h"
#include "bundle.h"
#include "meter.h"
#include "tinytrain_serial.h"

#ifdef CLOSED_FORM
#include "tinytrain_closed_form.h"
#endif
#ifdef TEACHING
#include "tinytrain_teaching.h"
#endif

#define AS_TEXT_(value) #value
#define AS_TEXT(value) AS_TEXT_(value)

alignas(16) std::uint8_t model_arena[MODEL_ARENA_BYTES];

namespace {

using tinytrain::Status;

alignas(16) std::uint8_t training_arena[exported::kTrainingArenaBytes];
#ifdef FROZEN
std::int8_t* const image_buffer = nullptr;  // it is read into the frozen part's input
#else
std::int8_t image_buffer[IMAGE_BYTES];
#endif
tinytrain::Trainer trainer;
#ifdef CLOSED_FORM
tinytrain::ClosedForm closed_form;
constexpr std::size_t kClosedFormBytes = exported::kClosedFormBytes;
alignas(16) std::uint8_t closed_form_memory[kClosedFormBytes];
#else
constexpr std::size_t kClosedFormBytes = 0;
#endif
tinytrain::TrainingSettings settings;

std::uint64_t probe_instructions;  // of the gradients of one iteration, without its forward passes
std::uint64_t first_instructions;  // of the first iteration, without its forward passes
std::uint64_t training_began;

// ---- flash that is written while the firmware runs -----------------------------------------------------------------------

#ifdef FLASH_PAGES
constexpr std::size_t kFeatureFlashBytes = exported::kFeatureFlashBytes, kDeltaFlashBytes = exported::kDeltaFlashBytes;
bool ErasePage(void* first, std::size_t offset) {
  board::EraseFlash(static_cast<std::uint8_t*>(first) + offset, exported::kFlashPageBytes);
  return true;
}
bool WriteBlock(void* first, std::size_t offset, const std::uint8_t* block) {
  board::WriteFlash(static_cast<std::uint8_t*>(first) + offset, block, tinytrain::kFlashBlockBytes);
  return true;
}
tinytrain::Flash PagesAt(const std::uint8_t* first, std::size_t num_bytes) {
  return {const_cast<std::uint8_t*>(first), first, num_bytes, exported::kFlashPageBytes, &ErasePage, &WriteBlock};
}
const tinytrain::Flash delta_flash = PagesAt(exported::g_flash + kFeatureFlashBytes, kDeltaFlashBytes);
const tinytrain::Flash* const delta_slots = &delta_flash;
#else
constexpr std::size_t kFeatureFlashBytes = 0, kDeltaFlashBytes = 0;
const tinytrain::Flash* const delta_slots = nullptr;
#endif
#ifdef FEATURE_FLASH
const tinytrain::Flash feature_flash = PagesAt(exported::g_flash, kFeatureFlashBytes);
const tinytrain::Flash* const sample_flash = &feature_flash;
#else
const tinytrain::Flash* const sample_flash = nullptr;
#endif

// ---- commands ------------------------------------------------------------------------------------------------------------

bool Answer(Status status, const void* data = nullptr, std::size_t size = 0) {
  if (status != Status::kOk && data == nullptr) {
    const char* text = tinytrain::StatusText(status);
    for (size = 0; text[size] != '\0';) ++size;
    data = text;
  }
  const auto num_bytes = static_cast<std::uint32_t>(size);
  const char head[] = {'a', static_cast<char>(status)};
  return board::Write(head, 2) && board::Write(&num_bytes, sizeof(num_bytes)) && board::Write(data, num_bytes);
}

#ifdef CLOSED_FORM
Status (*solve)(tinytrain::SecondHead* self);

// What Train solves.
Status MeteredSolve(tinytrain::SecondHead* self) {
  const Part caller = meter.Switch(kSolving);
  const Status status = solve(self);
  meter.Switch(caller);
  return status;
}
#endif

bool Init() {
  std::uint32_t iterations = 0;
  if (!board::Read(&iterations, sizeof(iterations))) return false;
  settings = exported::kTables.training;
  if (iterations > 0) settings.iterations = static_cast<std::int32_t>(iterations);
  tinytrain::Model measured;
#ifdef NUM_OPERATORS
  static const char kTooSmall[] = "the models do not open in the arena of " AS_TEXT(
      MODEL_ARENA_BYTES) " B: TensorFlow Lite Micro needs a larger one, or has not all of their operators";
  board::Doing(kTooSmall);  // it may fault instead of saying so
  if (!OpenMeasured(&measured)) return Answer(Status::kModelFailed, kTooSmall, sizeof(kTooSmall) - 1);
  board::Doing("");
#else
  if (!OpenMeasured(&measured)) return Answer(Status::kModelFailed);
#endif
  Status status = trainer.Init(exported::kTables, settings, measured, training_arena, sizeof(training_arena), sample_flash);
#ifdef CLOSED_FORM
  if (status == Status::kOk) {
    status = closed_form.Init(&trainer, exported::kMaps, closed_form_memory, sizeof(closed_form_memory));
    solve = closed_form.update;
    closed_form.update = &MeteredSolve;
  }
#endif
  return Answer(status);
}

// The image from the host; nullptr: none came.
const std::int8_t* ReadImage() {
  std::int8_t* image = image_buffer == nullptr ? trainer.ImageBuffer() : image_buffer;
  meter.Switch(kIdle);
  return image != nullptr && board::Read(image, IMAGE_BYTES) ? image : nullptr;
}

bool AddSample() {
  std::uint8_t label = 0;
  if (!board::Read(&label, 1)) return false;
  meter.Switch(kSamples);  // to make room for the image may open the frozen part
  const std::int8_t* image = ReadImage();
  if (image == nullptr) return false;
  meter.Switch(kSamples);
  const Status status = trainer.AddSample(image, label);
  meter.Switch(kIdle);
  return Answer(status);
}

bool Choose() {
  std::uint32_t limits[2] = {};
  if (!board::Read(limits, sizeof(limits))) return false;
  meter.Switch(kSelection);
  const Status status = trainer.Select({limits[0], limits[1]});
  meter.Switch(kIdle);
  return Answer(status);
}

// An iteration is gradients and an update. To measure each, the first iteration's gradients are computed twice; the trainable
// part is opened before, since an opening in one of the two would pass for the update.
Status Learn() {
  meter.Switch(kTrainable);
  if (model.open_trainable != nullptr) model.open_trainable(model.context);  // a failure fails again below
  meter.Switch(kProbe);
  Status status = trainer.ComputeGradients(nullptr);
  meter.Switch(kTraining);
  probe_instructions = meter.spent[kProbe];
  training_began = meter.spent[kTraining];
  const auto report = [](void*, std::int32_t, float loss) {
    meter.Switch(kIdle);
    if (first_instructions == 0) first_instructions = meter.spent[kTraining] - training_began;
    const bool good = board::Write("p", 1) && board::Write(&loss, sizeof(loss));
    meter.Switch(kTraining);
    return good;
  };
  if (status == Status::kOk) status = trainer.Train(report, nullptr);
  meter.Switch(kIdle);
  return status;
}

#ifdef CLOSED_FORM
bool Solve() {
  meter.Switch(kSolving);
  const float* scores = nullptr;
  const Status status = closed_form.Solve(&scores);
  meter.Switch(kIdle);
  const std::int32_t count = closed_form.num_rows() * closed_form.num_targets();
  return Answer(status, status == Status::kOk ? scores : nullptr, static_cast<std::size_t>(count) * sizeof(float));
}

bool ForgetClass() {
  std::uint8_t label = 0;
  return board::Read(&label, 1) && Answer(closed_form.ForgetClass(label));
}

bool TellFamiliarity() {
  const float figures[] = {closed_form.familiarity(), closed_form.threshold()};
  return Answer(Status::kOk, figures, sizeof(figures));
}
#endif

bool Predict() {
  const std::int8_t* image = ReadImage();
  if (image == nullptr) return false;
  const Status status = trainer.Predict(image, nullptr, nullptr);
  return Answer(status, trainer.buffers().logits, static_cast<std::size_t>(settings.num_classes) * sizeof(float));
}

bool SendDelta() {
  std::size_t written = 0;
  const Status status = trainer.SaveDelta(0, model_arena, sizeof(model_arena), &written);
  return Answer(status, model_arena, written);
}

// As a sketch does at its start: loads the saved delta.
bool ServeSerial() {
  constexpr std::uint8_t kEndOfTransmission = 4;
  const tinytrain::Port port = {
      nullptr,
      [](void*, void* data, std::size_t num_bytes) { return board::ReadSerial(data, num_bytes); },
      [](void*, const void* data, std::size_t num_bytes) { board::WriteSerial(data, num_bytes); },
      [](void*) { return board::Milliseconds(); },
      nullptr,
      [](void*) { return board::NextSerial(); },
  };
#ifdef TEACHING
  const tinytrain::MoreCommands* const more = &tinytrain::kTeaching;
#else
  const tinytrain::MoreCommands* const more = nullptr;
#endif
  tinytrain::SerialCommands commands(&trainer, port, NAME, image_buffer, delta_slots, more);
  board::OpenSerial();
  if (delta_slots != nullptr) trainer.LoadDelta(*delta_slots);
  while (board::PeekSerial() != kEndOfTransmission) commands.Serve();
  std::uint8_t end = 0;
  return board::ReadSerial(&end, 1) && Answer(Status::kOk);
}

// ---- figures -----------------------------------------------------------------------------------------------------------

class Report {
 public:
  void Add(const char* name, std::uint64_t value) {
    char digits[17];
    char* digit = digits + 16;
    *digit = '\0';
    do *--digit = "0123456789abcdef"[value & 15];
    while ((value >>= 4) > 0);
    Put(name);
    Put(" 0x");
    Put(digit);
    Put("\n");
  }
  bool Send() const { return Answer(Status::kOk, text_, length_); }

 private:
  void Put(const char* text) {
    while (*text != '\0' && length_ < sizeof(text_)) text_[length_++] = *text++;
  }
  char text_[1024];
  std::uint32_t length_ = 0;
};

bool SendReport() {
  const tinytrain::MemoryParts parts = trainer.memory_parts();
  const std::uint64_t training = meter.spent[kTraining];
  const std::uint64_t once = first_instructions > probe_instructions ? first_instructions - probe_instructions : 0;
  const std::uint64_t update = once * static_cast<std::uint64_t>(trainer.iteration());
  Report report;
  report.Add("sram.arena", sizeof(model_arena));
  report.Add("sram.features", parts.samples);
  report.Add("sram.training", sizeof(training_arena) - parts.samples);
  report.Add("sram.variables", board::StaticRam() - sizeof(model_arena) - sizeof(training_arena) - kClosedFormBytes);
  report.Add("sram.stack", board::StackHighWater());
  report.Add("flash.weights", board::WeightsInFlash() - kFeatureFlashBytes - kDeltaFlashBytes);
  report.Add("flash.features", kFeatureFlashBytes);
  report.Add("flash.deltas", kDeltaFlashBytes);
  report.Add("flash.tables", board::TablesInFlash());
  report.Add("flash.code", board::FlashUsed() - board::WeightsInFlash() - board::TablesInFlash() - board::CoreInFlash());
  report.Add("flash.core", board::CoreInFlash());
  report.Add("instructions.samples", meter.spent[kSamples]);
  report.Add("instructions.frozen_forward", meter.spent[kFrozen]);
  report.Add("instructions.trainable_forward", meter.spent[kTrainable]);
  report.Add("instructions.selection", meter.spent[kSelection]);
  report.Add("instructions.backward", training - update);
  report.Add("instructions.update", update);
#ifdef CLOSED_FORM
  report.Add("sram.closed_form", sizeof(closed_form_memory));
  report.Add("instructions.solving", meter.spent[kSolving]);
#endif
  report.Add("calls.frozen_forward", meter.calls[kFrozen]);
  report.Add("calls.trainable_forward", meter.calls[kTrainable]);
  report.Add("heap", board::HeapRequested());
  return report.Send();
}

bool Run(char command) {
  switch (command) {
    case 'i': return Init();
    case 's': return AddSample();
    case 'c': return Choose();
    case 'l': return Answer(Learn());
#ifdef CLOSED_FORM
    case 'v': return Solve();
    case 'x': return ForgetClass();
    case 'y': return TellFamiliarity();
#endif
    case 'p': return Predict();
    case 'd': return SendDelta();
    case 'u': return ServeSerial();
    case 'r': return SendReport();
    default: return false;
  }
}

}  // namespace

int main() {
  for (char command = 0; board::Read(&command, 1);) {
    if (command == 'q') return 0;
    if (!Run(command)) return 1;
  }
  return 1;
}
