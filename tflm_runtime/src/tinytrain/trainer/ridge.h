// Ridge regression in closed form on rows of int8, a row for each sample (R2-D2, Bertinetto et al., ICLR 2019).
//
// A row has P parts. c_p is the mean of part p over the N rows, rounded to int8, and z_ip = (x_ip - c_p) / ||x_ip - c_p||.
//   K = 1/P sum_p Z_p Z_p^T,   A = (K + lambda I)^-1 Y,   W_p = Z_p^T A / sqrt(P)
//   score(x) = 1/sqrt(P) sum_p z_p(x) W_p
// Row i of Y is the one-hot label of sample i minus 1 / (number of labels that have a row). keras_tinytrain.fewshot.ridge
// computes the same in float64. Sums of int8 products are exact, also around the mean of all samples but one. The condition
// number of K + lambda I is up to N / lambda, so K and A are computed in double: the same on a Cortex-M, where the compiler's
// library computes them. The N solutions without a sample give no more than its scores: they are computed in float.
#ifndef TINYTRAIN_RIDGE_H_
#define TINYTRAIN_RIDGE_H_

#include <cstddef>
#include <cstdint>

#include "tinytrain_tables.h"

namespace tinytrain {

constexpr double kRidge = 0.1;                    // lambda; accuracy hardly depends on it between 0.01 and 0.5
constexpr std::int32_t kMapPositions = 3;         // to which a map is pooled along each axis
constexpr std::int32_t kMaxPartElements = 32767;  // sums of a part's products fit 32 bits

// A map is pooled to at most kMapPositions along each axis, by equal windows: of n positions, window n - 2 floor(n / 3) at
// stride floor(n / 3). Elements that are left, and the pooled map: means, rounded to the map's own scale.
// Values of a row are -127 and above, since a delta holds the centre, and no int8 of a delta is -128.
std::int8_t AtLeast127(std::int32_t value);
std::int32_t PooledElements(const Tensor& map);
void PoolMap(std::int8_t* pooled, const std::int8_t* values, const Tensor& map);

// Rows in memory: row i is the one at place order[i].
struct Rows {
  const std::int8_t* first;
  std::size_t stride;  // bytes from one place to the next
  std::int32_t count;
  const std::uint16_t* order;  // [count]

  const std::int8_t* AtPlace(std::int32_t place) const { return first + static_cast<std::size_t>(place) * stride; }
  const std::int8_t* At(std::int32_t i) const { return AtPlace(order[i]); }
};

// The parts of a row.
struct RowParts {
  const std::int32_t* sizes;
  const std::int32_t* zero_points;  // of each part: the int8 that stands for 0
  std::int32_t count;

  std::int32_t Total() const;
};

// What is solved: rows and their labels.
struct RidgeTask {
  Rows rows;
  const std::uint8_t* labels;  // of each place, 0 to num_targets - 1
  std::int32_t num_targets;    // columns of Y
  std::int32_t num_present;    // of them that have a row

  std::int32_t Label(std::int32_t i) const { return labels[rows.order[i]]; }
  // Rows of one label.
  std::int32_t Count(std::int32_t label) const;
  // Sets num_targets and num_present; label num_classes is that of samples of no class.
  void CountTargets(std::int32_t num_classes);
};

constexpr float kRidgeScaleUnit = 1.0f / 1073741824.0f;  // 2^-30
constexpr std::int32_t kRidgeScaleOne = 1073741824;

// What is learned: for each class its W and, as one class more, the centre c.
struct RidgeWeights {
  const std::int8_t* values;   // [num_classes + 1][elements of a row]
  std::size_t stride;          // bytes from one of these rows to the next
  const std::int32_t* scales;  // [num_classes + 1] in units of 2^-30: W = scale * value; 1 for the centre, in the unit of a
                               // row; 0 for a class without rows, whose values are 0
};

// Memory while it is solved, for N rows and T targets.
struct RidgeWork {
  std::int32_t* products;  // [parts][N * (N + 1) / 2], (x_ip - c_p) (x_jp - c_p), lower triangles row by row
  double*
      matrix;  // [N * (N + 1) / 2], the lower triangle row by row: K, then the inverse of the Cholesky factor of K + lambda I
  double* weights;          // [N][T], A
  double* inverse_lengths;  // [parts][N], 1 / ||x_ip - c_p||; 0 where the length is 0
  // Before that, in the same memory, for each row that is left out:
  float* left_out;         // [N * (N + 1) / 2], K around the mean of the others, then the Cholesky factor of K + lambda I
  float* others;           // [N], K of the row with the others, then (K + lambda I)^-1 of it
  std::int64_t* row_sums;  // [parts][N], of the products
  std::int64_t* sums;      // [N], of the products with the others, times their number
  float* leave_one_out;    // [N][T], scores of each row by the solution for the others, around their mean
  float* coefficients;     // [N]
  std::uint16_t* order;    // [N], for Rows::order
};
std::size_t RidgeWorkBytes(std::int32_t num_rows, std::int32_t num_parts, std::int32_t num_targets);
RidgeWork CutRidgeWork(std::uint8_t* memory, std::int32_t num_rows, std::int32_t num_parts, std::int32_t num_targets);

// Where a solution is written, without gaps.
struct RidgeSpace {
  std::int8_t* values;
  std::int32_t* scales;
};

// First the centre, [elements of a row], and the products around it.
void MultiplyRows(const RidgeTask& task, const RowParts& parts, std::int8_t* centre, const RidgeWork& work);

// The scores of each row by the solution without it, from the products; of at most 32,767 rows. Before SolveRidge, whose memory
// it takes.
void LeaveOneOut(const RidgeTask& task, const RowParts& parts, const RidgeWork& work);

// A from the products.
void SolveRidge(const RidgeTask& task, const RowParts& parts, const RidgeWork& work);

// W of target k after SolveRidge, as int8 [elements of a row] and their scale. A target without a row: zeros, scale 0.
void QuantizeTarget(const RidgeTask& task, const RowParts& parts, const std::int8_t* centre, const RidgeWork& work,
                    std::int32_t k, std::int8_t* values, std::int32_t* scale);

// scores[k] of one row; kAbsentScore for a class without rows.
constexpr float kAbsentScore = -1e9f;
void RidgeScores(float* scores, const std::int8_t* row, const RowParts& parts, std::int32_t num_classes,
                 const RidgeWeights& learned);

}  // namespace tinytrain

#endif  // TINYTRAIN_RIDGE_H_
