#include "tinytrain_serial.h"

#include <cstring>

namespace tinytrain {
namespace {

constexpr int kLossDecimals = 6, kScaleDecimals = 12;
constexpr std::uint64_t kOne = 1ULL << 60;  // 1 in the fixed-point numbers of WriteFloat

// The rest of the text after `start`; nullptr: it does not begin so.
const char* After(const char* start, const char* text) {
  for (; *start != '\0'; ++start, ++text) {
    if (*start != *text) return nullptr;
  }
  return text;
}

bool Is(const char* word, const char* text) {
  const char* rest = After(word, text);
  return rest != nullptr && *rest == '\0';
}

// The text as a number; -1: it is none. No label has more than 3 digits.
std::int32_t Label(const char* text) {
  std::int32_t label = 0;
  int num_digits = 0;
  for (; *text >= '0' && *text <= '9' && num_digits < 4; ++text, ++num_digits) label = 10 * label + (*text - '0');
  return num_digits > 0 && *text == '\0' ? label : -1;
}

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

}  // namespace

// Losses and scales: never negative, below 2^31. Without libc, whose printf may know no floats; rounded half up.
template <int kNumDecimals>
void SerialCommands::WriteFloat(float value) {
  if (!(value >= 0.0F && value < 2147483648.0F)) return Write("nan");
  constexpr std::uint64_t kHalf = HalfUnit(kNumDecimals);
  auto whole = static_cast<std::int32_t>(value);
  std::uint64_t fraction = FixedPoint(value - static_cast<float>(whole)) + kHalf;
  if (fraction >= kOne) ++whole;
  WriteInteger(whole);
  char digits[kNumDecimals + 2] = ".";
  for (int i = 1; i <= kNumDecimals; ++i) {
    fraction = fraction % kOne * 10;
    digits[i] = static_cast<char>('0' + fraction / kOne);
  }
  Write(digits);
}

void SerialCommands::Serve() {
  if (!ReadLine()) return;
  const char* label = After("TEACH ", line_);
  if (label != nullptr) return Teach(Label(label));
  if (Is("TRAIN", line_)) return Train();
  if (Is("PREDICT", line_)) return Predict();
  if (Is("STATUS", line_)) return TellStatus();
  const bool reset = Is("RESET", line_);
  if (reset || Is("REVERT", line_)) {
    trainer_->Revert();
    if (reset) trainer_->ClearSamples();
    return Say("OK");
  }
  if (slots_ != nullptr && Is("SAVE", line_)) {
    if (Check(trainer_->SaveDelta(*slots_))) Say("OK");
    return;
  }
  Write("ERROR commands are TEACH <label>, TRAIN, PREDICT, STATUS, REVERT, RESET");
  Say(slots_ == nullptr ? "" : ", SAVE");
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

// Reads up to the line's end, which a terminal may send as "\r\n".
bool SerialCommands::ReadLine() {
  std::size_t length = 0;
  char next = '\0';
  while (port_.read(port_.context, &next, 1) && next != '\n') {
    if (next != '\r' && length + 1 < sizeof(line_)) line_[length++] = next;
  }
  line_[length] = '\0';
  return length > 0;
}

// The image goes into the frozen part's input, so that no buffer is needed.
const std::int8_t* SerialCommands::ReadImage() {
  const Tables& tables = trainer_->tables();
  std::int8_t* image = buffer_ == nullptr ? trainer_->ImageBuffer() : buffer_;
  const std::int32_t num_bytes = tables.image_height * tables.image_width * tables.image_channels;
  const bool good =
      image != nullptr && (port_.record == nullptr ? port_.read(port_.context, image, static_cast<std::size_t>(num_bytes))
                                                   : port_.record(port_.context, image));
  if (good) return image;
  Say(port_.record == nullptr ? "ERROR the image is incomplete" : "ERROR nothing was recorded");
  return nullptr;
}

void SerialCommands::Teach(std::int32_t label) {
  const std::int8_t* image = ReadImage();
  if (image == nullptr || !Check(trainer_->AddSample(image, label))) return;
  Write("OK samples ");
  WriteInteger(trainer_->num_samples());
  Say("");
}

bool SerialCommands::TellLoss(void* self, std::int32_t iteration, float loss) {
  auto* commands = static_cast<SerialCommands*>(self);
  commands->Write("LOSS ");
  commands->WriteInteger(iteration);
  commands->Write(" ");
  commands->WriteFloat<kLossDecimals>(loss);
  commands->Say("");
  return true;
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

void SerialCommands::Predict() {
  std::int32_t label = 0;
  const std::int8_t* image = ReadImage();
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
                 {" records ", port_.record == nullptr ? 0 : 1}};
  Write("OK network ");
  Write(network_);
  Write(" scale ");
  WriteFloat<kScaleDecimals>(tables.image_scale);
  for (const auto& number : numbers) {
    Write(number.name);
    WriteInteger(number.value);
  }
  Say("");
}

void SerialCommands::Write(const char* text) { port_.write(port_.context, text, std::strlen(text)); }

void SerialCommands::WriteInteger(std::int32_t value) {
  char digits[12];
  char* digit = digits + 11;
  *digit = '\0';
  const bool negative = value < 0;
  std::uint32_t rest = negative ? 0u - static_cast<std::uint32_t>(value) : static_cast<std::uint32_t>(value);
  do *--digit = static_cast<char>('0' + rest % 10);
  while ((rest /= 10) > 0);
  if (negative) *--digit = '-';
  Write(digit);
}

}  // namespace tinytrain
