// Waits for a motion, and records a window of it as the network takes it: what Port::record of a board with an accelerometer
// and a gyroscope does. No Arduino here: the sensor enters as a function.
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
constexpr std::uint32_t kMotionPatience = 10000;  // milliseconds without a motion, or without an answer of the sensor

struct MotionSensor {
  void* context;
  // Next measurement: accelerometer x y z in g, gyroscope x y z in degrees a second; false: none is ready yet.
  bool (*read)(void* context, float* values);
  std::uint32_t (*milliseconds)(void* context);
};

// Fills `window`, int8 [image_height][kMotionChannels], from the measurement after the one that passed the threshold on;
// rounded half to even. False where nothing moved, or the sensor said nothing, for kMotionPatience.
bool RecordMotion(const MotionSensor& sensor, const Tables& tables, std::int8_t* window);

}  // namespace tinytrain

#endif  // TINYTRAIN_MOTION_H_
