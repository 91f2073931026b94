// The little that these tests need: checks that count failures, and random operands that are the same on every machine.
#ifndef TINYTRAIN_TESTS_CHECK_H_
#define TINYTRAIN_TESTS_CHECK_H_

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

namespace check {

using Doubles = std::vector<double>;

inline int& Failures() {
  static int failures = 0;
  return failures;
}

inline void Fail(const std::string& name, const std::string& found) {
  if (++Failures() <= 20) std::printf("FAILED %s: %s\n", name.c_str(), found.c_str());
}

inline void True(const std::string& name, bool condition) {
  if (!condition) Fail(name, "is false");
}

// Within 1e-5 of the largest expected value: a sum that nearly cancels keeps the absolute error of its terms.
template <typename Values>
void Near(const std::string& name, const Values& actual, const Doubles& expected, double tolerance = 1e-5) {
  if (actual.size() != expected.size()) return Fail(name, "has another size");
  double largest = 1e-30;
  for (const double value : expected) largest = std::fmax(largest, std::fabs(value));
  for (std::size_t i = 0; i < expected.size(); ++i) {
    if (std::fabs(static_cast<double>(actual[i]) - expected[i]) <= tolerance * largest) continue;
    const std::string values = std::to_string(actual[i]) + ", expected " + std::to_string(expected[i]);
    return Fail(name, "element " + std::to_string(i) + " is " + values);
  }
}

// The gradient of a scalar function at `at`, by central differences.
inline Doubles CentralDifferences(const std::function<double(const Doubles&)>& function, Doubles at, double step) {
  Doubles gradient;
  for (double& value : at) {
    const double here = value;
    value = here + step;
    const double above = function(at);
    value = here - step;
    gradient.push_back((above - function(at)) / (2 * step));
    value = here;
  }
  return gradient;
}

// xorshift32.
class Random {
 public:
  explicit Random(std::uint32_t seed) : state_(seed * 2654435761u + 1u) {}

  std::int32_t Between(std::int32_t lowest, std::int32_t highest) {
    return lowest + static_cast<std::int32_t>(Next() % static_cast<std::uint32_t>(highest - lowest + 1));
  }
  std::vector<std::int8_t> Bytes(std::int32_t count, std::int32_t lowest = -127) {
    std::vector<std::int8_t> values;
    for (std::int32_t i = 0; i < count; ++i) values.push_back(static_cast<std::int8_t>(Between(lowest, 127)));
    return values;
  }
  // In (-1, 1), a quarter of them zero, as an activation leaves them.
  std::vector<float> Gradients(std::int32_t count) {
    std::vector<float> values;
    for (std::int32_t i = 0; i < count; ++i) {
      values.push_back(Between(0, 3) == 0 ? 0.0f : static_cast<float>(Between(-999, 999)) / 1000.0f);
    }
    return values;
  }
  std::vector<float> Scales(std::int32_t count) {
    std::vector<float> values;
    for (std::int32_t i = 0; i < count; ++i) values.push_back(static_cast<float>(Between(1, 100)) / 1000.0f);
    return values;
  }

 private:
  std::uint32_t Next() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 17;
    state_ ^= state_ << 5;
    return state_;
  }

  std::uint32_t state_;
};

inline int Result(const char* name) {
  std::printf("%s: %s\n", name, Failures() == 0 ? "passed" : "FAILED");
  return Failures() == 0 ? 0 : 1;
}

}  // namespace check

#endif  // TINYTRAIN_TESTS_CHECK_H_
