// The closed-form head over the serial port.
#include "tinytrain/numerics/strict_float.h"

#include <cstring>

#include "tinytrain_closed_form.h"
#include "tinytrain_delta.h"
#include "tinytrain_serial.h"

namespace tinytrain {
namespace {

void Write(const Port& port, const char* text) { port.write(port.context, text, std::strlen(text)); }

void WriteNumber(const Port& port, const char* name, std::uint32_t value, std::int32_t num_digits = 1) {
  char digits[11];
  char* digit = digits + 10;
  *digit = '\0';
  do {
    *--digit = static_cast<char>('0' + value % 10);
    value /= 10;
  } while (--num_digits > 0 || value > 0);
  Write(port, name);
  Write(port, digit);
}

// With six decimals; all familiarities are below 2,000.
void WriteScore(const Port& port, const char* name, float score) {
  constexpr float kMillion = 1000000.0f;
  const float size = score < 0.0f ? -score : score;
  const auto millionths = static_cast<std::uint32_t>(size < 2000.0f ? size * kMillion : 2000.0f * kMillion);
  Write(port, name);
  WriteNumber(port, score < 0.0f ? "-" : "", millionths / 1000000u);
  WriteNumber(port, ".", millionths % 1000000u, 6);
}

bool Is(const char* word, const char* line) { return SameName(word, line); }

// The number after a word and a blank; kNone: the line is no such.
std::int32_t NumberAfter(const char* word, const char* line) {
  const std::size_t length = std::strlen(word);
  if (std::strlen(line) < length + 2 || std::memcmp(word, line, length) != 0 || line[length] != ' ') return kNone;
  std::int32_t number = 0;
  for (const char* digit = line + length + 1; *digit != '\0'; ++digit) {
    if (*digit < '0' || *digit > '9' || number > 65535) return kNone;
    number = 10 * number + (*digit - '0');
  }
  return number;
}

bool Answer(const Port& port, Status status) {
  Write(port, status == Status::kOk ? "OK" : "ERROR ");
  if (status != Status::kOk) Write(port, StatusText(status));
  return status == Status::kOk;
}

}  // namespace

bool ClosedForm::Obey(SecondHead* self, const char* line, const Port& port) {
  auto* const head = static_cast<ClosedForm*>(self);
  const std::int32_t label = NumberAfter("FORGET", line);
  if (Is("STATUS", line)) {
    const bool has_prototypes = head->trainer_->CanPredict();
    Write(port, head->answers ? "HEAD ridge\r\n" : has_prototypes ? "HEAD prototypes\r\n" : "HEAD none\r\n");
    return false;  // SerialCommands tells the rest
  }
  if (Is("SOLVE", line)) {
    const std::uint32_t begin = port.milliseconds(port.context);
    if (Answer(port, head->Solve())) {
      WriteNumber(port, " milliseconds ", port.milliseconds(port.context) - begin);
      WriteNumber(port, " right ", static_cast<std::uint32_t>(head->num_right_));
      WriteNumber(port, " samples ", static_cast<std::uint32_t>(head->num_rows()));
    }
  } else if (label != kNone) {
    if (Answer(port, head->ForgetClass(label))) {
      WriteNumber(port, " samples ", static_cast<std::uint32_t>(head->trainer_->num_samples()));
    }
  } else if (head->rejects() && Is("FAMILIARITY", line)) {
    if (Answer(port, head->answers && head->has_known_ ? Status::kOk : Status::kNotTrained)) {
      WriteScore(port, " familiarity ", head->familiarity_);
      WriteScore(port, " threshold ", head->threshold_);
    }
  } else {
    return false;
  }
  Write(port, "\r\n");
  return true;
}

}  // namespace tinytrain
