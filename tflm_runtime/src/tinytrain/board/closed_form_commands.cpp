// The closed-form head over the serial port.
#include <cstring>

#include "tinytrain_closed_form.h"
#include "tinytrain_delta.h"
#include "tinytrain_serial.h"

namespace tinytrain {
namespace {

void Write(const Port& port, const char* text) { port.write(port.context, text, std::strlen(text)); }

void WriteNumber(const Port& port, const char* name, std::uint32_t value) {
  char digits[11];
  char* digit = digits + 10;
  *digit = '\0';
  do *--digit = static_cast<char>('0' + value % 10);
  while ((value /= 10) > 0);
  Write(port, name);
  Write(port, digit);
}

bool Is(const char* word, const char* line) { return SameName(word, line); }

}  // namespace

bool ClosedForm::Obey(SecondHead* self, const char* line, const Port& port) {
  auto* const head = static_cast<ClosedForm*>(self);
  if (Is("STATUS", line)) {
    const bool has_prototypes = head->trainer_->CanPredict();
    Write(port, head->answers ? "HEAD ridge\r\n" : has_prototypes ? "HEAD prototypes\r\n" : "HEAD none\r\n");
    return false;  // SerialCommands tells the rest
  }
  if (!Is("SOLVE", line)) return false;
  const std::uint32_t begin = port.milliseconds(port.context);
  const Status status = head->Solve();
  const bool solved = status == Status::kOk;
  Write(port, solved ? "OK" : "ERROR ");
  if (solved) {
    WriteNumber(port, " milliseconds ", port.milliseconds(port.context) - begin);
    WriteNumber(port, " right ", static_cast<std::uint32_t>(head->num_right_));
    WriteNumber(port, " samples ", static_cast<std::uint32_t>(head->trainer_->num_samples()));
  } else {
    Write(port, StatusText(status));
  }
  Write(port, "\r\n");
  return true;
}

}  // namespace tinytrain
