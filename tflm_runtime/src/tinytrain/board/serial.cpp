#include "tinytrain_serial.h"

#include <cstring>

#include "tinytrain/board/answers.h"
#include "tinytrain/delta/format.h"
#include "tinytrain_delta.h"

namespace tinytrain {
namespace {

constexpr int kLossDecimals = 6, kScaleDecimals = 12;
constexpr std::uint64_t kOne = 1ULL << 60;  // 1 in the fixed-point numbers of WriteFloat

// value * 2^60 for 0 <= value < 1, rounded down.
std::uint64_t FixedPoint(float value) {
  constexpr float kHalfWay = 1073741824.0F;  // 2^30
  const auto high = static_cast<std::uint32_t>(value * kHalfWay);
  const auto low = static_cast<std::uint32_t>((value * kHalfWay - static_cast<float>(high)) * kHalfWay);
  return static_cast<std::uint64_t>(high) << 30 | low;
}

// Half a unit of the last decimal.
constexpr std::uint64_t HalfUnit(int num_decimals) {
  std::uint64_t half = kOne / 2;
  for (int i = 0; i < num_decimals; ++i) half /= 10;
  return half;
}

constexpr std::uint64_t kLossHalf = HalfUnit(kLossDecimals), kScaleHalf = HalfUnit(kScaleDecimals);

}  // namespace

// Losses and scales: never negative, below 2^31. Without libc, whose printf may know no floats; rounded half up. `half` is half
// a unit of the last decimal.
void SerialCommands::WriteFloat(float value, int num_decimals, std::uint64_t half) {
  if (!(value >= 0.0F && value < 2147483648.0F)) return Write("nan");
  auto whole = static_cast<std::int32_t>(value);
  std::uint64_t fraction = FixedPoint(value - static_cast<float>(whole)) + half;
  if (fraction >= kOne) ++whole;
  WriteInteger(whole);
  char digits[kScaleDecimals + 2] = {'.'};
  for (int i = 1; i <= num_decimals; ++i) {
    fraction = fraction % kOne * 10;
    digits[i] = static_cast<char>('0' + fraction / kOne);
  }
  Write(digits);
}

void SerialCommands::Serve() {
  if (!ReadLine()) return;
  SecondHead* const second = trainer_->buffers().second_head;
  if (second != nullptr && second->obey(second, line_, port_)) return;
  if (more_ != nullptr && more_->obey(trainer_, slots_, line_, port_)) return;
  const std::int32_t num_checks = port_.record == nullptr ? 1 : 0;
  std::uint32_t numbers[2] = {};
  const char* rest = After("TEACH", line_);
  if (rest != nullptr && ReadNumbers(rest, numbers, 1 + num_checks)) return Teach(numbers[0], numbers[1]);
  rest = After("PREDICT", line_);
  if (rest != nullptr && ReadNumbers(rest, numbers, num_checks)) return Predict(numbers[0]);
  if (SameName("TRAIN", line_)) return Train();
  if (SameName("STATUS", line_)) return TellStatus();
  const bool reset = SameName("RESET", line_);
  if (reset || SameName("REVERT", line_)) {
    trainer_->Revert();
    if (reset) trainer_->ClearSamples();
    return Say("OK");
  }
  if (slots_ != nullptr && SameName("SAVE", line_)) return Confirm(trainer_->SaveDelta(*slots_));
  if (slots_ != nullptr && SameName("UNDO", line_)) return Confirm(trainer_->UndoSave(*slots_));
  if (slots_ != nullptr && SameName("FACTORY", line_)) return Confirm(trainer_->FactoryReset(*slots_));
  Write("ERROR commands are TEACH <label>");
  Write(num_checks > 0 ? " <crc>, PREDICT <crc>" : ", PREDICT");
  Write(second == nullptr ? ", TRAIN" : second->commands);
  Write(", STATUS, REVERT, RESET");
  Write(slots_ == nullptr ? "" : ", SAVE, UNDO, FACTORY");
  Say(more_ == nullptr ? "" : more_->names);
}

void SerialCommands::Greet() {
  Write("OK ready protocol ");
  WriteInteger(kProtocolVersion);
  Say("");
}

void SerialCommands::Confirm(Status status) {
  if (Check(status)) Say("OK");
}

bool SerialCommands::Check(Status status) {
  if (status == Status::kOk) return true;
  Write("ERROR ");
  Say(StatusText(status));
  return false;
}

void SerialCommands::Say(const char* line) {
  Write(line);
  Write("\r\n");
}

// Reads up to the line's end, which a terminal may send as "\r\n". A line whose end does not come is no command. One that is
// too long becomes a command that nobody knows, and so does one with a 0.
bool SerialCommands::ReadLine() {
  std::size_t length = 0;
  for (char next = '\0'; next != '\n';) {
    if (!port_.read(port_.context, &next, 1)) return false;
    if (next != '\r' && next != '\n' && next != kStop && length < sizeof(line_)) line_[length++] = next == '\0' ? '?' : next;
  }
  if (length == sizeof(line_)) line_[0] = '?';
  line_[length < sizeof(line_) ? length : length - 1] = '\0';
  return length > 0;
}

// The image goes into the frozen part's input, so that no buffer is needed.
const std::int8_t* SerialCommands::ReadImage(std::uint32_t crc) {
  const Tables& tables = trainer_->tables();
  std::int8_t* image = buffer_ == nullptr ? trainer_->ImageBuffer() : buffer_;
  const std::int32_t num_values = tables.image_height * tables.image_width * tables.image_channels;
  const auto num_bytes = static_cast<std::size_t>(num_values);
  const void* const bytes = image;
  if (port_.record != nullptr) {
    if (image != nullptr && port_.record(port_.context, image)) return image;
    Say("ERROR nothing was recorded");
  } else {
    const bool is_there = image != nullptr && port_.read(port_.context, image, num_bytes);
    if (is_there && Crc32(static_cast<const std::uint8_t*>(bytes), num_bytes) == crc) return image;
    Say(is_there ? "ERROR the image was altered on its way" : "ERROR the image is incomplete");
  }
  return nullptr;
}

void SerialCommands::Teach(std::uint32_t label, std::uint32_t crc) {
  const std::int8_t* image = ReadImage(crc);
  if (image == nullptr || !Check(trainer_->AddSample(image, static_cast<std::int32_t>(label)))) return;
  Write("OK samples ");
  WriteInteger(trainer_->num_samples());
  Say("");
}

bool SerialCommands::TellLoss(void* self, std::int32_t iteration, float loss) {
  auto* commands = static_cast<SerialCommands*>(self);
  commands->Write("LOSS ");
  commands->WriteInteger(iteration);
  commands->Write(" ");
  commands->WriteFloat(loss, kLossDecimals, kLossHalf);
  commands->Say("");
  return !commands->IsStopped();
}

bool SerialCommands::IsStopped() {
  char stop = '\0';
  return port_.peek != nullptr && port_.peek(port_.context) == kStop && port_.read(port_.context, &stop, 1);
}

void SerialCommands::Train() {
  const std::uint32_t begin = port_.milliseconds(port_.context);
  if (!Check(trainer_->Train(&TellLoss, this))) return;
  const std::uint32_t end = port_.milliseconds(port_.context);
  TellPlan();
  Write("OK milliseconds ");
  WriteInteger(static_cast<std::int32_t>(end - begin));
  Say("");
}

void SerialCommands::Predict(std::uint32_t crc) {
  std::int32_t label = 0;
  const std::int8_t* image = ReadImage(crc);
  if (image == nullptr || !Check(trainer_->Predict(image, nullptr, &label))) return;
  Write("OK label ");
  WriteInteger(label);
  Say("");
}

void SerialCommands::TellPlan() {
  const Tables& tables = trainer_->tables();
  for (std::int32_t i = 0; i < tables.num_trained; ++i) {
    const TrainedLayer& layer = tables.trained[i];
    Write("PLAN ");
    Write(layer.name);
    Write(" ");
    WriteInteger(layer.num_channels);
    Say("");
  }
}

void SerialCommands::TellStatus() {
  TellPlan();
  const Tables& tables = trainer_->tables();
  const struct {
    const char* name;
    std::int32_t value;
  } numbers[] = {{" height ", tables.image_height},
                 {" width ", tables.image_width},
                 {" channels ", tables.image_channels},
                 {" zero_point ", tables.image_zero_point},
                 {" classes ", trainer_->settings().num_classes},
                 {" max_samples ", trainer_->settings().max_samples},
                 {" samples ", trainer_->num_samples()},
                 {" iterations ", trainer_->iteration()},
                 {" records ", port_.record == nullptr ? 0 : 1},
                 {" protocol ", kProtocolVersion},
                 {" saves ", slots_ == nullptr ? 0 : DeltaSlots(*slots_).num_deltas()},
                 {" lasting ", slots_ == nullptr ? trainer_->IsAsExported() : trainer_->IsSaved(*slots_)}};
  Write("OK network ");
  Write(network_);
  Write(" scale ");
  WriteFloat(tables.image_scale, kScaleDecimals, kScaleHalf);
  Write(trainer_->IsAsExported() ? " runs exported" : " runs learned");
  for (const auto& number : numbers) {
    Write(number.name);
    WriteInteger(number.value);
  }
  Say("");
}

void SerialCommands::Write(const char* text) { port_.write(port_.context, text, std::strlen(text)); }

void SerialCommands::WriteInteger(std::int32_t value) {
  const auto size = static_cast<std::uint32_t>(value);
  WriteNumber(port_, value < 0 ? "-" : "", value < 0 ? 0u - size : size);
}

}  // namespace tinytrain
