// Every optimizer against Keras' formula in double, over some steps.
#include "check.h"
#include "tinytrain/trainer/optimizer.h"

namespace {

using check::Doubles;
using tinytrain::Optimizer;

constexpr std::size_t kNumWeights = 12, kRun = 4;
constexpr double kRate = 0.01, kBeta1 = 0.875, kBeta2 = 0.96875, kEpsilon = 1e-6;  // decays that a float holds exactly

// The change of weight i in step `step`, from 1; `m` and `v` are its state.
double Change(Optimizer optimizer, double gradient, double mean_square, int step, double* m, double* v) {
  switch (optimizer) {
    case Optimizer::kSgd: return -kRate * gradient;
    case Optimizer::kMomentum: return *m = kBeta1 * *m - kRate * gradient;
    case Optimizer::kRmsprop:
      *v = kBeta2 * *v + (1 - kBeta2) * gradient * gradient;
      return -kRate * gradient / std::sqrt(*v + kEpsilon);
    case Optimizer::kAdam: mean_square = gradient * gradient;
    // falls through
    case Optimizer::kAdamPerChannel: {
      *m = kBeta1 * *m + (1 - kBeta1) * gradient;
      *v = kBeta2 * *v + (1 - kBeta2) * mean_square;
      const double alpha = kRate * std::sqrt(1 - std::pow(kBeta2, step)) / (1 - std::pow(kBeta1, step));
      return -alpha * *m / (std::sqrt(*v) + kEpsilon);
    }
  }
  return 0.0;
}

void RunOptimizer(Optimizer optimizer) {
  const std::string name = "optimizer " + std::to_string(static_cast<int>(optimizer));
  tinytrain::TrainingSettings settings{};
  settings.optimizer = optimizer;
  settings.learning_rate = static_cast<float>(kRate);
  settings.momentum = static_cast<float>(kBeta1);
  settings.beta_2 = static_cast<float>(kBeta2);
  settings.epsilon = static_cast<float>(kEpsilon);
  check::True(name + " is valid", tinytrain::OptimizerIsValid(settings));
  std::vector<float> state(tinytrain::OptimizerFloats(optimizer, kNumWeights, kNumWeights / kRun) + 1, 0.0f);
  state.back() = 7.0f;  // beyond its floats
  Doubles m(kNumWeights), v(kNumWeights);
  tinytrain::AdamCorrection correction;
  check::Random random(3);
  for (int step = 1; step <= 5; ++step) {
    const auto gradients = random.Gradients(static_cast<std::int32_t>(kNumWeights));
    tinytrain::OptimizerStep moving(settings, gradients.data(), kNumWeights, state.data(), &correction);
    std::vector<float> changes;
    Doubles expected;
    for (std::size_t first = 0; first < kNumWeights; first += kRun) {
      moving.BeginRun(first, kRun);
      double mean_square = 0.0;
      for (std::size_t i = first; i < first + kRun; ++i) mean_square += static_cast<double>(gradients[i] * gradients[i]) / kRun;
      for (std::size_t i = first; i < first + kRun; ++i) {
        changes.push_back(moving.Change(i));
        expected.push_back(Change(optimizer, static_cast<double>(gradients[i]), mean_square, step, &m[i], &v[i]));
      }
    }
    check::Near(name, changes, expected);
  }
  check::True(name + " keeps within its floats", state.back() == 7.0f);
}

}  // namespace

int main() {
  tinytrain::TrainingSettings settings{};
  settings.momentum = settings.beta_2 = settings.epsilon = 0.5f;
  int number = 0;
  for (;; ++number) {
    settings.optimizer = static_cast<Optimizer>(number);
    if (!tinytrain::OptimizerIsValid(settings)) break;
    RunOptimizer(settings.optimizer);
  }
  check::True("there are optimizers", number > 0);
  for (; number < 256; ++number) {
    settings.optimizer = static_cast<Optimizer>(number);
    check::True("a number that is no optimizer is refused", !tinytrain::OptimizerIsValid(settings));
  }
  return check::Result("optimizers");
}
