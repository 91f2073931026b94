// Words and numbers on a serial port, for the commands of several parts.
#ifndef TINYTRAIN_BOARD_ANSWERS_H_
#define TINYTRAIN_BOARD_ANSWERS_H_

#include <cstdint>

#include "tinytrain_serial.h"
#include "tinytrain_status.h"

namespace tinytrain {

// The rest of the text after `start`; nullptr: it does not begin so.
const char* After(const char* start, const char* text);

// Reads `count` numbers of 32 bits, with a blank before each, up to the text's end.
bool ReadNumbers(const char* text, std::uint32_t* numbers, std::int32_t count);

void WriteText(const Port& port, const char* text);
// A name, and a number of at least so many digits.
void WriteNumber(const Port& port, const char* name, std::uint32_t value, std::int32_t num_digits = 1);
// "OK", or "ERROR " and the status' text, both without the line's end. Returns whether it is kOk.
bool WriteStatus(const Port& port, Status status);

}  // namespace tinytrain

#endif  // TINYTRAIN_BOARD_ANSWERS_H_
