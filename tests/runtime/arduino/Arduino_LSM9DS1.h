// A stand-in of the motion sensor's library: it plays the recordings in the file that MOTIONS names, float32 windows of STEPS
// measurements of six values. Before each the board rests for a while and is then jolted, as it was when they were recorded.
#ifndef ARDUINO_LSM9DS1_H_
#define ARDUINO_LSM9DS1_H_

#include <cstdio>
#include <cstdlib>

class MotionPlayer {
 public:
  int begin() {
    file_ = std::fopen(std::getenv("MOTIONS"), "rb");
    return file_ != nullptr;
  }
  int accelerationAvailable() { return 1; }
  // Measurements are read in pairs; every third time the gyroscope is late.
  int gyroscopeAvailable() { return ++asked_ % 3 != 0; }
  int readAcceleration(float& x, float& y, float& z) {
    Advance();
    x = now_[0];
    y = now_[1];
    z = now_[2];
    return 1;
  }
  int readGyroscope(float& x, float& y, float& z) {
    x = now_[3];
    y = now_[4];
    z = now_[5];
    return 1;
  }

 private:
  static constexpr int kRest = 5;

  void Advance() {
    if (step_ < kRest) {
      for (int i = 0; i < 6; ++i) now_[i] = i == 2 ? 1.0f : 0.0f;
    } else if (step_ == kRest) {
      now_[0] = -1.6f;  // with gravity above the threshold
    } else if (std::fread(now_, sizeof(float), 6, file_) != 6) {
      std::exit(1);  // more is asked for than was recorded
    }
    step_ = step_ == kRest + STEPS ? 0 : step_ + 1;
  }

  std::FILE* file_ = nullptr;
  float now_[6] = {};
  int step_ = 0;
  int asked_ = 0;
};
static MotionPlayer IMU;

#endif  // ARDUINO_LSM9DS1_H_
