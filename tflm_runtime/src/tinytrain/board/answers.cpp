#include "tinytrain/board/answers.h"

#include <cstring>

namespace tinytrain {

const char* After(const char* start, const char* text) {
  for (; *start != '\0'; ++start, ++text) {
    if (*start != *text) return nullptr;
  }
  return text;
}

bool ReadNumbers(const char* text, std::uint32_t* numbers, std::int32_t count) {
  constexpr std::uint64_t kLargest = 0xffffffffu;
  for (std::int32_t i = 0; i < count; ++i) {
    if (*text++ != ' ') return false;
    const char* const digits = text;
    std::uint64_t number = 0;
    for (; *text >= '0' && *text <= '9' && number <= kLargest; ++text)
      number = 10 * number + static_cast<std::uint64_t>(*text - '0');
    if (text == digits || number > kLargest) return false;
    numbers[i] = static_cast<std::uint32_t>(number);
  }
  return *text == '\0';
}

void WriteText(const Port& port, const char* text) { port.write(port.context, text, std::strlen(text)); }

void WriteNumber(const Port& port, const char* name, std::uint32_t value, std::int32_t num_digits) {
  char digits[11];
  char* digit = digits + 10;
  *digit = '\0';
  do {
    *--digit = static_cast<char>('0' + value % 10);
    value /= 10;
  } while (--num_digits > 0 || value > 0);
  WriteText(port, name);
  WriteText(port, digit);
}

bool WriteStatus(const Port& port, Status status) {
  WriteText(port, status == Status::kOk ? "OK" : "ERROR ");
  if (status != Status::kOk) WriteText(port, StatusText(status));
  return status == Status::kOk;
}

}  // namespace tinytrain
