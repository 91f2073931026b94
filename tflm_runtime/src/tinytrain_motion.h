// Waits for a motion and records a window of it as the network's input. Port::record of a board with an accelerometer and a
// gyroscope does so. It needs no Arduino: the sensor is a function pointer.
#ifndef TINYTRAIN_MOTION_H_
#define TINYTRAIN_MOTION_H_

#include <cstddef>
#include <cstdint>

#include "tinytrain_tables.h"

namespace tinytrain {

constexpr int kMotionChannels = 6;
constexpr float kDegreesPerSecond = 250.0F;  // one unit of angular rate of the network's input; accelerations are in g
// |x| + |y| + |z| in g at which a motion begins, gravity included: a board at rest feels 1 to 1.73.
constexpr float kMotionThreshold = 2.5F;
constexpr std::uint32_t kMotionPatience = 10000;  // milliseconds to wait for a motion, or for the sensor's answer

struct MotionSensor {
  void* context;
  // The next measurement: accelerometer x y z in g, gyroscope x y z in degrees a second. False: none is ready yet.
  bool (*read)(void* context, float* values);
  std::uint32_t (*milliseconds)(void* context);
};

// Fills `window`, int8 [image_height][kMotionChannels], beginning with the measurement after the one that passed the threshold.
// Values are rounded half to even. False: no motion for `patience` milliseconds (0: not in the next measurement), or no answer
// of the sensor for kMotionPatience.
bool RecordMotion(const MotionSensor& sensor, const Tables& tables, std::int8_t* window,
                  std::uint32_t patience = kMotionPatience);

}  // namespace tinytrain

#endif  // TINYTRAIN_MOTION_H_
