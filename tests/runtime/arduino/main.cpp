// The bundle's sketch as a program. Arduino's compiler puts declarations of a sketch's functions first; this one needs none.
#include <Arduino.h>

#include "sketch.ino"

int main() {
  setup();
  for (;;) {
    loop();
    pins.end_line();
    pins.press();
  }
}
