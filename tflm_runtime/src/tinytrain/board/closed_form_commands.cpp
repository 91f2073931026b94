// The closed-form head over the serial port.
#include "tinytrain/numerics/strict_float.h"

#include "tinytrain/board/answers.h"
#include "tinytrain_closed_form.h"
#include "tinytrain_delta.h"
#include "tinytrain_serial.h"

namespace tinytrain {
namespace {

// With six decimals; all familiarities are below 2,000.
void WriteScore(const Port& port, const char* name, float score) {
  constexpr float kMillion = 1000000.0f;
  const float size = score < 0.0f ? -score : score;
  const auto millionths = static_cast<std::uint32_t>(size < 2000.0f ? size * kMillion : 2000.0f * kMillion);
  WriteText(port, name);
  WriteNumber(port, score < 0.0f ? "-" : "", millionths / 1000000u);
  WriteNumber(port, ".", millionths % 1000000u, 6);
}

bool Is(const char* word, const char* line) { return SameName(word, line); }

}  // namespace

bool ClosedForm::Obey(SecondHead* self, const char* line, const Port& port) {
  auto* const head = static_cast<ClosedForm*>(self);
  std::uint32_t label = 0;
  const char* const forgotten = After("FORGET", line);
  if (Is("STATUS", line)) {
    const bool has_prototypes = head->trainer_->CanPredict();
    WriteText(port, head->answers ? "HEAD ridge\r\n" : has_prototypes ? "HEAD prototypes\r\n" : "HEAD none\r\n");
    return false;  // SerialCommands tells the rest
  }
  if (Is("SOLVE", line)) {
    const std::uint32_t begin = port.milliseconds(port.context);
    if (WriteStatus(port, head->Solve())) {
      WriteNumber(port, " milliseconds ", port.milliseconds(port.context) - begin);
      WriteNumber(port, " right ", static_cast<std::uint32_t>(head->num_right_));
      WriteNumber(port, " samples ", static_cast<std::uint32_t>(head->num_rows()));
    }
  } else if (forgotten != nullptr && ReadNumbers(forgotten, &label, 1)) {
    if (WriteStatus(port, head->ForgetClass(static_cast<std::int32_t>(label)))) {
      WriteNumber(port, " samples ", static_cast<std::uint32_t>(head->trainer_->num_samples()));
    }
  } else if (head->rejects() && Is("FAMILIARITY", line)) {
    if (WriteStatus(port, head->answers && head->has_known_ ? Status::kOk : Status::kNotTrained)) {
      WriteScore(port, " familiarity ", head->familiarity_);
      WriteScore(port, " threshold ", head->threshold_);
    }
  } else {
    return false;
  }
  WriteText(port, "\r\n");
  return true;
}

}  // namespace tinytrain
