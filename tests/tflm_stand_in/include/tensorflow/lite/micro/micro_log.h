// A library that has it is young enough for GATHER; the firmware prints by its own means.
#ifndef TENSORFLOW_LITE_MICRO_MICRO_LOG_H_
#define TENSORFLOW_LITE_MICRO_MICRO_LOG_H_

#endif  // TENSORFLOW_LITE_MICRO_MICRO_LOG_H_
