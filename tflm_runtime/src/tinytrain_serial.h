// Teaches a trainer over a serial port: the same commands on an Arduino, on any other port, and on the emulated board.
//
// A command is a line. `image` is what the network takes, image_height * image_width * image_channels int8 with
// q = round(value / image_scale) + image_zero_point, row by row; it follows the line at once. With Port::record it does not:
// the board records it then.
//   TEACH <label>, image   keep a sample of class <label>, 0 to num_classes - 1
//   TRAIN                  train on the samples kept; a line "LOSS <iteration> <loss>" after each iteration, then what was
//                          trained, a line "PLAN <layer> <number of channels>" for each layer
//   PREDICT, image         which class is it
//   STATUS                 what the network wants, and what it has learned from: names and values by turns. Before it the lines
//                          "PLAN ...": what is trained or, of candidates, was chosen last; none before the first choice
//   SAVE                   keep what was learned in flash (where the caller has slots)
//   REVERT                 forget what was learned, keep the samples
//   RESET                  forget the samples, too; what was saved stays
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
  // Reads so many bytes; false where they did not come in time. 10 seconds suit a person with a cable.
  bool (*read)(void* context, void* data, std::size_t num_bytes);
  // Writes so many bytes; what is lost is lost.
  void (*write)(void* context, const void* data, std::size_t num_bytes);
  std::uint32_t (*milliseconds)(void* context);
  // Records an image where one is wanted; false where there was nothing to record. nullptr: images come over the port.
  bool (*record)(void* context, std::int8_t* image) = nullptr;
};

class SerialCommands {
 public:
  // `network` is the name that STATUS tells. `buffer` is for one image where the model has no frozen part, whose input serves
  // otherwise (Trainer::ImageBuffer). `slots` for SAVE may be nullptr: then there is no such command.
  SerialCommands(Trainer* trainer, const Port& port, const char* network, std::int8_t* buffer = nullptr,
                 const Flash* slots = nullptr)
      : trainer_(trainer), port_(port), network_(network), buffer_(buffer), slots_(slots) {}

  // Reads one command and answers it; an empty line, or none in time, is no command. The trainer must have been initialised.
  void Serve();

  // "ERROR " and what is wrong, unless all is well; returns whether it is.
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
