#include "tinytrain/numerics/strict_float.h"

#include "tinytrain_motion.h"

#include "tinytrain/numerics/math.h"

namespace tinytrain {
namespace {

float Magnitude(float value) { return value < 0.0F ? -value : value; }

// The next measurement. False: the sensor does not answer.
bool Await(const MotionSensor& sensor, float* values) {
  const std::uint32_t begin = sensor.milliseconds(sensor.context);
  while (!sensor.read(sensor.context, values)) {
    if (sensor.milliseconds(sensor.context) - begin > kMotionPatience) return false;
  }
  return true;
}

bool AwaitMotion(const MotionSensor& sensor, std::uint32_t patience) {
  const std::uint32_t begin = sensor.milliseconds(sensor.context);
  float values[kMotionChannels];
  do {
    if (!Await(sensor, values)) return false;
    if (Magnitude(values[0]) + Magnitude(values[1]) + Magnitude(values[2]) >= kMotionThreshold) return true;
  } while (sensor.milliseconds(sensor.context) - begin < patience);
  return false;
}

std::int8_t Quantise(float value, const Tables& tables) {
  const float q = RoundToEven(value / tables.image_scale) + static_cast<float>(tables.image_zero_point);
  return static_cast<std::int8_t>(!(q > -128.0F) ? -128.0F : q > 127.0F ? 127.0F : q);
}

}  // namespace

bool RecordMotion(const MotionSensor& sensor, const Tables& tables, std::int8_t* window, std::uint32_t patience) {
  if (tables.image_width * tables.image_channels != kMotionChannels || !AwaitMotion(sensor, patience)) return false;
  for (std::int32_t step = 0; step < tables.image_height; ++step, window += kMotionChannels) {
    float values[kMotionChannels];
    if (!Await(sensor, values)) return false;
    for (int i = 0; i < kMotionChannels; ++i) {
      window[i] = Quantise(i < 3 ? values[i] : values[i] / kDegreesPerSecond, tables);
    }
  }
  return true;
}

}  // namespace tinytrain
