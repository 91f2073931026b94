// A button's presses, as its contacts make and break, by hand.
#include "check.h"
#include "tinytrain_button.h"

namespace {

using tinytrain::Button;

void Press(Button* button, std::uint32_t begin, std::uint32_t milliseconds) {
  button->Update(true, begin);
  button->Update(false, begin + 5);  // the contacts bounce
  button->Update(true, begin + 8);
  button->Update(false, begin + milliseconds);
  button->Update(true, begin + milliseconds + 4);
  button->Update(false, begin + milliseconds + 9);
}

void IsCounted(const char* name, Button::Presses presses, std::int32_t count, std::uint32_t held) {
  check::True(name, presses.count == count && (count == 0 || presses.held_milliseconds == held));
}

void ShortPresses() {
  Button button;
  for (std::uint32_t i = 0; i < 3; ++i) Press(&button, 1000 + i * 300, 100);
  IsCounted("more may follow", button.Take(false, 2000), 0, 0);
  IsCounted("three presses", button.Take(false, 2400), 3, 100);
  IsCounted("taken once", button.Take(false, 4000), 0, 0);
}

void LongPress() {
  Button button;
  button.Update(true, 500);
  IsCounted("it is down", button.Take(true, 30000), 0, 0);
  button.Update(false, 40000);
  IsCounted("held", button.Take(false, 40700), 1, 39500);
}

// The clock's milliseconds wrap after 49 days.
void Wrap() {
  Button button;
  Press(&button, 0xffffffceu, 100);
  IsCounted("around the wrap", button.Take(false, 900), 1, 100);
}

}  // namespace

int main() {
  ShortPresses();
  LongPress();
  Wrap();
  return check::Result("button");
}
