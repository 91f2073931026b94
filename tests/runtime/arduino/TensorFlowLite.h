// A stand-in of what a sketch finds on an Arduino: Serial is standard input and output.
#ifndef TENSORFLOWLITE_H_
#define TENSORFLOWLITE_H_

#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>

struct SerialPort {
  void begin(long) {}
  void setTimeout(long) {}
  explicit operator bool() { return true; }
  int available() { return 1; }  // reading waits
  std::size_t readBytes(char* data, std::size_t count) {
    std::size_t got = 0;
    while (got < count) {
      const ssize_t more = read(0, data + got, count - got);
      if (more <= 0) std::exit(0);  // the other end was closed
      got += static_cast<std::size_t>(more);
    }
    return got;
  }
  std::size_t readBytesUntil(char end, char* data, std::size_t count) {
    std::size_t got = 0;
    while (got < count && readBytes(data + got, 1) == 1 && data[got] != end) ++got;
    return got;
  }
  void print(const char* text) { Write(text, std::strlen(text)); }
  void print(int value) { Format("%d", value); }
  void print(long value) { Format("%ld", value); }
  void print(unsigned long value) { Format("%lu", value); }
  void print(float value, int digits) { Format("%.*f", digits, static_cast<double>(value)); }
  template <class... Args> void println(Args... args) {
    print(args...);
    print("\r\n");
  }

 private:
  template <class... Args> void Format(const char* format, Args... args) {
    char text[64];
    std::snprintf(text, sizeof(text), format, args...);
    print(text);
  }
  void Write(const char* data, std::size_t count) {
    while (count > 0) {
      const ssize_t written = write(1, data, count);
      if (written <= 0) std::exit(0);
      data += written;
      count -= static_cast<std::size_t>(written);
    }
  }
};
static SerialPort Serial;

inline unsigned long millis() { return static_cast<unsigned long>(std::clock() * 1000 / CLOCKS_PER_SEC); }
inline void delay(unsigned long) {}

#endif  // TENSORFLOWLITE_H_
