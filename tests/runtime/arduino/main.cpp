// The bundle's sketch as a program. Arduino's compiler puts declarations of a sketch's functions first; this one needs none.
#include "sketch.ino"

int main() {
  setup();
  for (;;) loop();
}
