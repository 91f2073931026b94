// What a sketch uses of Arduino's core, declared only: to see that it compiles as the Nano 33 BLE's core compiles it.
#ifndef TENSORFLOWLITE_H_
#define TENSORFLOWLITE_H_

#include <stddef.h>
#include <stdint.h>

class SerialPort {
 public:
  void begin(unsigned long baud);
  void setTimeout(unsigned long milliseconds);
  explicit operator bool();
  int available();
  size_t readBytes(char* buffer, size_t length);
  size_t write(const uint8_t* buffer, size_t size);
};
extern SerialPort Serial;

unsigned long millis();
void delay(unsigned long milliseconds);

#endif  // TENSORFLOWLITE_H_
