// One button that teaches in the field: short presses are counted, a long one is measured. The caller reads the pin and the
// clock.
#ifndef TINYTRAIN_BUTTON_H_
#define TINYTRAIN_BUTTON_H_

#include <cstdint>

namespace tinytrain {

constexpr std::uint32_t kBounceMilliseconds = 30;  // contacts bounce: another change so soon is none
constexpr std::uint32_t kRestMilliseconds = 600;   // without a press, after which nothing more is waited for

class Button {
 public:
  struct Presses {
    std::int32_t count;               // 0: none, or more may follow
    std::uint32_t held_milliseconds;  // of the last one
  };

  // The pin as it is now. Call it when the pin changes (from an interrupt) and as often as it suits: presses are not lost then,
  // however long the caller predicts.
  void Update(bool is_down, std::uint32_t now) {
    if (is_down == is_down_ || now - changed_ < kBounceMilliseconds) return;
    if (is_down) {
      ++count_;
    } else {
      held_ = now - changed_;
    }
    is_down_ = is_down;
    changed_ = now;
  }

  // All presses, once the button was released and has rested. One that is held for good, by a short circuit, never counts.
  Presses Take(bool is_down, std::uint32_t now) {
    Update(is_down, now);
    if (is_down_ || count_ == 0 || now - changed_ < kRestMilliseconds) return {0, 0};
    const Presses presses = {count_, held_};
    count_ = 0;
    return presses;
  }

 private:
  bool is_down_ = false;
  std::int32_t count_ = 0;
  std::uint32_t changed_ = 0, held_ = 0;
};

}  // namespace tinytrain

#endif  // TINYTRAIN_BUTTON_H_
