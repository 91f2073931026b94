#include "tinytrain/numerics/strict_float.h"

#include "tinytrain/trainer/familiarity.h"

#include <cstring>

#include "tinytrain/trainer/ridge_rows.h"

namespace tinytrain {
namespace {

// The score of one row by one row of weights.
template <typename OriginOf>
float ScoreRow(const std::int8_t* row, const RowParts& parts, OriginOf origin_of, const std::int8_t* weights,
               std::int32_t scale) {
  float sum = 0.0f;
  std::int32_t first = 0;
  for (std::int32_t p = 0; p < parts.count; first += parts.sizes[p++]) {
    const auto origin = origin_of(p, first);
    const std::int32_t squares = Dot(row + first, row + first, origin, parts.sizes[p]);
    if (squares == 0) continue;  // no direction
    const auto dot = static_cast<float>(DotWeights(row + first, weights + first, origin, parts.sizes[p]));
    sum += dot / SquareRoot(static_cast<float>(squares) * static_cast<float>(parts.count));
  }
  return sum * (static_cast<float>(scale) * kRidgeScaleUnit);
}

float Cosine(const std::int8_t* row, const RowParts& parts, const std::int8_t* direction, std::int32_t scale) {
  const auto origin = [&](std::int32_t p, std::int32_t) { return FromZero{parts.zero_points[p]}; };
  return ScoreRow(row, parts, origin, direction, scale);
}

// Samples that are left out, and the sums of their familiarities.
class LeavingOut {
 public:
  LeavingOut(const RidgeTask& all, const RowParts& parts, std::int32_t num_classes, const RidgeWork& work,
             const RidgeSpace& space)
      : all_(all), parts_(parts), num_classes_(num_classes), work_(work), space_(space), total_(parts.Total()) {
    for (std::int32_t k = 0; k < num_classes; ++k) Direct(all, k);
  }

  std::int32_t count() const { return count_; }
  void Class(std::int32_t label) {
    Run([&](std::int32_t place) { return all_.labels[place] == label; });
  }
  // The i-th row alone: its class has another direction without it.
  void One(std::int32_t i) {
    const std::int32_t place = all_.rows.order[i], label = all_.Label(i);
    Run([&](std::int32_t each) { return each == place; }, label);
    if (label < num_classes_) Direct(all_, label);
  }
  // mean + sign * bound * standard deviation of the scores; `independent` of them are so of each other.
  float Bound(std::int32_t independent, const Maps& maps, float sign) const {
    const auto n = static_cast<double>(count_);
    const double mean = sum_ / n, rest = squares_ - sum_ * mean;
    const double deviation = Root(rest / (n - 1.0));  // 0 of what rounding made negative

    const std::int32_t at = independent - 2 < maps.num_bounds ? independent - 2 : maps.num_bounds - 1;
    return static_cast<float>(mean + static_cast<double>(sign * maps.bounds[at]) * deviation);
  }

 private:
  template <typename IsOut>
  void Run(IsOut is_out, std::int32_t changed = kNone) {
    RidgeTask rest = all_;
    rest.rows.count = MoveToEnd(is_out);
    rest.CountTargets(num_classes_);
    if (changed != kNone && changed < num_classes_) Direct(rest, changed);
    std::int8_t* const centre = space_.values + num_classes_ * total_;
    MultiplyRows(rest, parts_, centre, work_);
    SolveRidge(rest, parts_, work_);
    for (std::int32_t i = rest.rows.count; i < all_.rows.count; ++i) Add(rest, all_.rows.At(i), centre);
    Sort();
  }
  void Add(const RidgeTask& rest, const std::int8_t* row, const std::int8_t* centre) {
    KernelRow(rest, row, centre);
    std::int32_t answer = kNone;
    float best = 0.0f;
    for (std::int32_t k = 0; k < num_classes_; ++k) {
      if (rest.Count(k) == 0) continue;
      const float score = Score(rest, k);
      if (answer != kNone && !(score > best)) continue;
      answer = k;
      best = score;
    }
    const float unknown = rest.num_targets > num_classes_ ? Score(rest, num_classes_) : 0.0f;
    const float cosine = Cosine(row, parts_, space_.values + answer * total_, space_.scales[answer]);
    const auto familiarity = static_cast<double>(best - unknown + kCosineWeight * cosine);
    sum_ += familiarity;
    squares_ += familiarity * familiarity;
    ++count_;
  }
  // coefficients[i] = K(row, i)
  void KernelRow(const RidgeTask& rest, const std::int8_t* row, const std::int8_t* centre) {
    const std::int32_t n = rest.rows.count;
    for (std::int32_t i = 0; i < n; ++i) work_.coefficients[i] = 0.0f;
    std::int32_t first = 0;
    for (std::int32_t p = 0; p < parts_.count; first += parts_.sizes[p++]) {
      const FromCentre origin = {centre + first};
      const double own = InverseLength(row + first, origin, parts_.sizes[p]) / static_cast<double>(parts_.count);
      for (std::int32_t i = 0; i < n; ++i) {
        const auto dot = static_cast<double>(Dot(row + first, rest.rows.At(i) + first, origin, parts_.sizes[p]));
        work_.coefficients[i] += static_cast<float>(dot * own * work_.inverse_lengths[p * n + i]);
      }
    }
  }
  float Score(const RidgeTask& rest, std::int32_t k) const {
    double sum = 0.0;
    for (std::int32_t i = 0; i < rest.rows.count; ++i) {
      sum += work_.weights[i * rest.num_targets + k] * static_cast<double>(work_.coefficients[i]);
    }
    return static_cast<float>(sum);
  }
  void Direct(const RidgeTask& task, std::int32_t k) {
    QuantizeDirection(task, parts_, work_.coefficients, k, space_.values + k * total_, &space_.scales[k]);
  }
  // The places that are left out come last; the others keep their order. Returns their number.
  template <typename IsOut>
  std::int32_t MoveToEnd(IsOut is_out) {
    std::int32_t kept = 0;
    for (std::int32_t i = 0; i < all_.rows.count; ++i) {
      const std::uint16_t place = work_.order[i];
      if (is_out(place)) continue;
      Shift(kept, i);
      work_.order[kept++] = place;
    }
    return kept;
  }
  void Sort() {
    for (std::int32_t i = 1; i < all_.rows.count; ++i) {
      const std::uint16_t place = work_.order[i];
      std::int32_t at = i;
      while (at > 0 && work_.order[at - 1] > place) --at;
      Shift(at, i);
      work_.order[at] = place;
    }
  }
  // order[begin + 1 to end] = order[begin to end - 1]
  void Shift(std::int32_t begin, std::int32_t end) {
    std::memmove(work_.order + begin + 1, work_.order + begin, static_cast<std::size_t>(end - begin) * sizeof(std::uint16_t));
  }

  const RidgeTask& all_;
  const RowParts& parts_;
  const std::int32_t num_classes_;
  const RidgeWork& work_;
  const RidgeSpace& space_;
  const std::int32_t total_;
  double sum_ = 0.0, squares_ = 0.0;
  std::int32_t count_ = 0;
};

}  // namespace

void QuantizeDirection(const RidgeTask& task, const RowParts& parts, float* coefficients, std::int32_t k, std::int8_t* values,
                       std::int32_t* scale) {
  const auto origin = [&](std::int32_t p, std::int32_t) { return FromZero{parts.zero_points[p]}; };
  // 1 / ||x_ip|| of the class's samples, divided by the length of their sum and by sqrt(parts)
  const auto fill = [&](std::int32_t p, std::int32_t first) {
    for (std::int32_t i = 0; i < task.rows.count; ++i) {
      const bool is_own = task.Label(i) == k;
      const double length = is_own ? InverseLength(task.rows.At(i) + first, origin(p, first), parts.sizes[p]) : 0.0;
      coefficients[i] = static_cast<float>(length);
    }
    float squares = 0.0f;
    for (std::int32_t d = 0; d < parts.sizes[p]; ++d) {
      const float sum = SumOfRows(task.rows, coefficients, origin(p, first), first + d, d);
      squares += sum * sum;
    }
    if (squares == 0.0f) return;
    const float share = 1.0f / SquareRoot(squares * static_cast<float>(parts.count));
    for (std::int32_t i = 0; i < task.rows.count; ++i) coefficients[i] *= share;
  };
  *scale = 0;
  std::memset(values, 0, static_cast<std::size_t>(parts.Total()));
  if (task.Count(k) > 0) QuantizeRow(task.rows, parts, origin, coefficients, fill, values, scale);
}

float Familiarity(const std::int8_t* row, const RowParts& parts, const KnownWeights& weights, std::int32_t k) {
  const auto ridge_row = [&](std::int32_t i) {
    return weights.ridge.values + static_cast<std::size_t>(i) * weights.ridge.stride;
  };
  const auto known_row = [&](std::int32_t i) {
    return weights.known.values + static_cast<std::size_t>(i) * weights.known.stride;
  };
  const std::int32_t unknown = weights.num_classes;
  const std::int8_t* const centre = ridge_row(weights.num_classes);
  const auto origin = [&](std::int32_t, std::int32_t first) { return FromCentre{centre + first}; };
  const float own = ScoreRow(row, parts, origin, ridge_row(k), weights.ridge.scales[k]);
  const float other = ScoreRow(row, parts, origin, known_row(unknown), weights.known.scales[unknown]);
  return own - other + kCosineWeight * Cosine(row, parts, known_row(k), weights.known.scales[k]);
}

float FindThreshold(const RidgeTask& task, const RowParts& parts, std::int32_t num_classes, const RidgeWork& work,
                    const RidgeSpace& space, const Maps& maps) {
  LeavingOut left_out(task, parts, num_classes, work, space);
  std::int32_t num_known = 0;
  for (std::int32_t k = 0; k < num_classes; ++k) num_known += task.Count(k) > 0 ? 1 : 0;
  if (num_known > 2) {
    for (std::int32_t k = 0; k < num_classes; ++k) {
      if (task.Count(k) > 0) left_out.Class(k);
    }
    return left_out.Bound(num_known, maps, 1.0f);
  }
  const bool has_others = task.Count(num_classes) > 1;
  for (std::int32_t i = 0; i < task.rows.count; ++i) {
    const std::int32_t label = task.Label(i);
    if (has_others ? label == num_classes : label < num_classes && task.Count(label) > 1) left_out.One(i);
  }
  return left_out.count() < 2 ? kNoThreshold : left_out.Bound(left_out.count(), maps, has_others ? 1.0f : -1.0f);
}

}  // namespace tinytrain
