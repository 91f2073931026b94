// The heads against their formulas in double and central differences.
#include "check.h"
#include "tinytrain/trainer/head.h"

namespace {

using check::Doubles;

constexpr std::size_t kNumClasses = 4, kDimension = 9;
constexpr float kScale = 10.0f;

double Norm(const double* x) {
  double sum = 0.0;
  for (std::size_t i = 0; i < kDimension; ++i) sum += x[i] * x[i];
  return std::sqrt(sum);
}

// logit_k = scale * cos(z, p_k)
Doubles Cosines(const Doubles& z, const Doubles& prototypes) {
  Doubles logits;
  for (std::size_t k = 0; k < kNumClasses; ++k) {
    double dot = 0.0;
    for (std::size_t i = 0; i < kDimension; ++i) dot += z[i] * prototypes[k * kDimension + i];
    logits.push_back(static_cast<double>(kScale) * dot / (Norm(z.data()) * Norm(&prototypes[k * kDimension])));
  }
  return logits;
}

double CrossEntropy(const Doubles& logits, std::size_t label) {
  double sum = 0.0;
  for (const double logit : logits) sum += std::exp(logit - logits[label]);
  return std::log(sum);
}

void RunHeads(std::uint32_t seed) {
  check::Random random(seed);
  const auto z = random.Gradients(kDimension), prototypes = random.Gradients(kNumClasses * kDimension);
  const Doubles z64(z.begin(), z.end()), p64(prototypes.begin(), prototypes.end());
  const std::size_t label = seed % kNumClasses;
  std::vector<float> logits(kNumClasses), d_z(kDimension);
  tinytrain::CosineLogits(logits.data(), z.data(), prototypes.data(), kScale, kNumClasses, kDimension);
  check::Near("CosineLogits", logits, Cosines(z64, p64));
  const Doubles logits64(logits.begin(), logits.end());
  const float loss = tinytrain::SoftmaxCrossEntropy(logits.data(), static_cast<std::int32_t>(label), kNumClasses);
  check::Near("SoftmaxCrossEntropy", std::vector<float>{loss}, {CrossEntropy(logits64, label)});
  const auto of_logits = [&](const Doubles& x) { return CrossEntropy(x, label); };
  check::Near("its gradient", logits, check::CentralDifferences(of_logits, logits64, 1e-4), 1e-4);
  tinytrain::CosineBackward(d_z.data(), logits.data(), z.data(), prototypes.data(), kScale, kNumClasses, kDimension);
  const auto of_z = [&](const Doubles& x) { return CrossEntropy(Cosines(x, p64), label); };
  check::Near("CosineBackward", d_z, check::CentralDifferences(of_z, z64, 1e-5), 1e-4);
}

}  // namespace

int main() {
  for (std::uint32_t seed = 1; seed < 30; ++seed) RunHeads(seed);
  return check::Result("heads");
}
