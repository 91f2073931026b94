// What stand-ins of serial ports share: standard input and output, whose waiting is a hundredth of a board's.
#ifndef TERMINAL_H_
#define TERMINAL_H_

#include <poll.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>

// Whether something can be read within so many of the board's milliseconds.
inline bool TerminalHas(int milliseconds) {
  struct pollfd input = {0, POLLIN, 0};
  return ::poll(&input, 1, (milliseconds + 99) / 100) > 0;
}

// Bytes that came; a byte must come within so many of the board's milliseconds after the one before.
inline std::size_t ReadTerminal(void* data, std::size_t count, int milliseconds) {
  std::size_t got = 0;
  while (got < count && TerminalHas(milliseconds)) {
    const ssize_t more = ::read(0, static_cast<char*>(data) + got, count - got);
    if (more <= 0) std::exit(0);  // the other end was closed
    got += static_cast<std::size_t>(more);
  }
  return got;
}

inline void WriteTerminal(const void* data, std::size_t count) {
  for (std::size_t done = 0; done < count;) {
    const ssize_t written = ::write(1, static_cast<const char*>(data) + done, count - done);
    if (written <= 0) std::exit(0);
    done += static_cast<std::size_t>(written);
  }
}

#endif  // TERMINAL_H_
