// Checks the tables and settings once, so that no call after Init has to.
#ifndef TINYTRAIN_CHECK_H_
#define TINYTRAIN_CHECK_H_

#include "tinytrain_status.h"
#include "tinytrain_tables.h"

namespace tinytrain {

constexpr std::int32_t kMaxOutputs = 64;  // outputs of trainable.tflite that the runtime can follow

// kOk, kVersionMismatch or kInvalidTables.
Status CheckTables(const Tables& tables);

// kOk or kInvalidSettings; the tables must have been checked.
Status CheckSettings(const Tables& tables, const TrainingSettings& settings);

}  // namespace tinytrain

#endif  // TINYTRAIN_CHECK_H_
