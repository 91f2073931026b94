// A stand-in of what a sketch finds on an Arduino: Serial is standard input and output.
#ifndef TENSORFLOWLITE_H_
#define TENSORFLOWLITE_H_

#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <ctime>

struct SerialPort {
  void begin(long) {}
  void setTimeout(long) {}
  explicit operator bool() { return true; }
  int available() { return 1; }  // reading waits
  std::size_t readBytes(char* data, std::size_t count) {
    std::size_t got = 0;
    while (got < count) {
      const ssize_t more = ::read(0, data + got, count - got);
      if (more <= 0) std::exit(0);  // the other end was closed
      got += static_cast<std::size_t>(more);
    }
    return got;
  }
  std::size_t write(const std::uint8_t* data, std::size_t count) {
    for (std::size_t done = 0; done < count;) {
      const ssize_t written = ::write(1, data + done, count - done);
      if (written <= 0) std::exit(0);
      done += static_cast<std::size_t>(written);
    }
    return count;
  }
};
static SerialPort Serial;

inline unsigned long millis() { return static_cast<unsigned long>(std::clock() * 1000 / CLOCKS_PER_SEC); }
inline void delay(unsigned long) {}

#endif  // TENSORFLOWLITE_H_
