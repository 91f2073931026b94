// Commands to a trainer over a serial port. They are the same on an Arduino, on any other port, and on the emulated board.
//
// A command is a line. `image` is the network's input: image_height * image_width * image_channels int8, row by row, with
// q = round(value / image_scale) + image_zero_point. It follows the line at once. With Port::record the board records the image
// itself, and none follows.
//   TEACH <label>, image   keep a sample of class <label>, 0 to num_classes - 1
//   TRAIN                  train on the kept samples. After each iteration: a line "LOSS <iteration> <loss>". At the end: a
//                          line "PLAN <layer> <number of channels>" for each trained layer
//   PREDICT, image         the class of the image
//   STATUS                 the network's input, and how much it has learned from: names and values by turns. Lines "PLAN ..."
//                          of the trained layers come first; with candidates of those chosen last, none before the first choice
//   SAVE                   write the delta to flash (if the caller has slots)
//   REVERT                 forget the delta, keep the samples
//   RESET                  forget the samples, too; the saved delta stays
// Each is answered by one line, "OK ..." or "ERROR ...". `keras-tinytrain device` is the other end.
//
// Lifetime: trainer, name, buffer and slots must outlive the commands. Memory: the object itself, some 60 bytes.
#ifndef TINYTRAIN_SERIAL_H_
#define TINYTRAIN_SERIAL_H_

#include <cstddef>
#include <cstdint>

#include "tinytrain.h"

namespace tinytrain {

// A serial port, a clock, and perhaps a sensor.
struct Port {
  void* context;
  // Reads num_bytes. False: they did not come in time. 10 seconds suit a person with a cable.
  bool (*read)(void* context, void* data, std::size_t num_bytes);
  // Writes num_bytes. Lost bytes are not reported.
  void (*write)(void* context, const void* data, std::size_t num_bytes);
  std::uint32_t (*milliseconds)(void* context);
  // Records an image. False: there was nothing to record. nullptr: images come over the port.
  bool (*record)(void* context, std::int8_t* image) = nullptr;
};

class SerialCommands {
 public:
  // `network` is the name in the answer to STATUS. `buffer` holds one image if the model has no frozen part; else the image
  // goes into the frozen part's input (Trainer::ImageBuffer). `slots` is for SAVE; nullptr: there is no such command.
  SerialCommands(Trainer* trainer, const Port& port, const char* network, std::int8_t* buffer = nullptr,
                 const Flash* slots = nullptr)
      : trainer_(trainer), port_(port), network_(network), buffer_(buffer), slots_(slots) {}

  // Reads one command and answers it. An empty line, or none in time, is no command. The trainer must be initialised.
  void Serve();

  // Writes "ERROR " and the status' text, unless it is kOk; returns whether it is kOk.
  bool Check(Status status);
  // A line of its own, such as "OK ready".
  void Say(const char* line);

 private:
  static bool TellLoss(void* self, std::int32_t iteration, float loss);
  bool ReadLine();
  const std::int8_t* ReadImage();
  void Teach(std::int32_t label);
  void Train();
  void Predict();
  void TellPlan();
  void TellStatus();
  void Write(const char* text);
  void WriteInteger(std::int32_t value);
  template <int kNumDecimals>
  void WriteFloat(float value);

  Trainer* trainer_;
  Port port_;
  const char* network_;
  std::int8_t* buffer_;
  const Flash* slots_;
  char line_[16];  // longer ones are cut off: no command is longer
};

}  // namespace tinytrain

#endif  // TINYTRAIN_SERIAL_H_
