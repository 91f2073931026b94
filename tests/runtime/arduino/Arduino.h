// A stand-in of Arduino's core: Serial is standard input and output. If BUTTON is set, no PC is there, and between two calls of
// loop the button is pressed as its next letter says: "." shortly, "-" for two seconds, "=" for eleven, " " not for a second.
// Each time the lamp goes on is a star in standard error; a line there is a call of loop.
#ifndef ARDUINO_H_
#define ARDUINO_H_

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstdio>

#include "../terminal.h"

constexpr int LOW = 0, HIGH = 1, OUTPUT = 1, INPUT_PULLUP = 2, CHANGE = 3;
#if !defined(ARDUINO_ARCH_ESP32)
#define LED_BUILTIN 13
#define A0 14
#endif

struct Clock {
  unsigned long now = 0;  // milliseconds; time passes where a sketch waits
};
inline Clock& clock_of_board() {
  static Clock clock;
  return clock;
}
inline unsigned long millis() { return clock_of_board().now; }
inline void delay(unsigned long milliseconds) { clock_of_board().now += milliseconds; }

struct SerialPort {
  void begin(long) {}
  void setTimeout(long milliseconds) { timeout_ = static_cast<int>(milliseconds); }
  void setRxBufferSize(std::size_t) {}
  explicit operator bool() { return std::getenv("BUTTON") == nullptr; }  // a board with a button has no PC
  int available() {
    clock_of_board().now += 1;
    return peeked_ >= 0 || TerminalHas(100) ? 1 : 0;
  }
  int peek() {
    char next = 0;
    if (peeked_ < 0 && TerminalHas(0) && ReadTerminal(&next, 1, timeout_) == 1) peeked_ = static_cast<unsigned char>(next);
    return peeked_;
  }
  std::size_t readBytes(char* data, std::size_t count) {
    if (peeked_ < 0 || count == 0) return ReadTerminal(data, count, timeout_);
    *data = static_cast<char>(peeked_);
    peeked_ = -1;
    return 1 + ReadTerminal(data + 1, count - 1, timeout_);
  }
  std::size_t write(const std::uint8_t* data, std::size_t count) {
    WriteTerminal(data, count);
    return count;
  }

 private:
  int timeout_ = 1000;
  int peeked_ = -1;
};
static SerialPort Serial;

class Pins {
 public:
  void attach(void (*changed)()) { changed_ = changed; }
  int level() const { return level_; }
  // Presses the button as the next letter says.
  void press() {
    if (script_ == nullptr || *script_ == '\0') return;
    const char letter = *script_++;
    delay(letter == ' ' ? 1000 : 100);
    if (letter == ' ') return;
    change(LOW);
    delay(letter == '.' ? 100 : letter == '-' ? 2000 : 11000);
    change(HIGH);
    change(LOW);  // it bounces
    change(HIGH);
  }
  void lamp(int level) {
    if (level != HIGH || script_ == nullptr) return;
    std::fputc('*', stderr);
    is_lit_ = true;
  }
  void end_line() {
    if (is_lit_) std::fputc('\n', stderr);
    is_lit_ = false;
  }

 private:
  void change(int level) {
    level_ = level;
    if (changed_ != nullptr) changed_();
  }
  void (*changed_)() = nullptr;
  int level_ = HIGH;
  bool is_lit_ = false;
  const char* script_ = std::getenv("BUTTON");
};
static Pins pins;

inline void pinMode(int, int) {}
inline int digitalRead(int) { return pins.level(); }
inline void digitalWrite(int, int level) { pins.lamp(level); }
inline int digitalPinToInterrupt(int pin) { return pin; }
inline void attachInterrupt(int, void (*changed)(), int) { pins.attach(changed); }
inline void noInterrupts() {}
inline void interrupts() {}

#endif  // ARDUINO_H_
