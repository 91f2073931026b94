// What a sketch uses of Arduino's core, declared only: to see that it compiles as the Nano 33 BLE's core compiles it.
#ifndef ARDUINO_H_
#define ARDUINO_H_

#include <stddef.h>
#include <stdint.h>

enum PinStatus { LOW, HIGH, CHANGE };
enum PinMode { INPUT, OUTPUT, INPUT_PULLUP };
#define LED_BUILTIN (13u)
#define digitalPinToInterrupt(pin) (pin)

class SerialPort {
 public:
  void begin(unsigned long baud);
  void setTimeout(unsigned long milliseconds);
  operator bool();
  int available();
  int peek();
  size_t readBytes(char* buffer, size_t length);
  size_t write(const uint8_t* buffer, size_t size);
};
extern SerialPort Serial;

unsigned long millis();
void delay(unsigned long milliseconds);
void pinMode(uint8_t pin, PinMode mode);
PinStatus digitalRead(uint8_t pin);
void digitalWrite(uint8_t pin, PinStatus value);
void attachInterrupt(uint8_t interrupt, void (*callback)(), PinStatus mode);
void noInterrupts();
void interrupts();

#endif  // ARDUINO_H_
