// Commands to a trainer over a serial port. They are the same on an Arduino, on any other port, and on the emulated board.
//
// A command is a line. `image` is the network's input: image_height * image_width * image_channels int8, row by row, with
// q = round(value / image_scale) + image_zero_point. It follows the line at once. With Port::record the board records the image
// itself, and none follows.
// <crc> is the image's CRC-32, as zlib's, in decimal: an image that was cut off or altered is not kept. With Port::record none
// is sent.
//   TEACH <label> <crc>, image   keep a sample of class <label>, 0 to num_classes - 1. With a closed-form head that tells
//   unknown
//                          samples, num_classes is the label of a sample of no class
//   TRAIN                  train on the kept samples. After each iteration: a line "LOSS <iteration> <loss>". At the end: a
//                          line "PLAN <layer> <number of channels>" for each trained layer. Where the port has Port::peek, a
//                          byte kStop (Ctrl-C) ends it after its iteration, and what it learned so far stays
//   SOLVE                  with a closed-form head (tinytrain_closed_form.h): solve it for the kept samples, train nothing. The
//                          answer tells how many of them the solution without them gets right
//   FORGET <label>         with a closed-form head: forget the samples of a class, for the next SOLVE
//   PREDICT <crc>, image   the class of the image, -1 where it is of none
//   FAMILIARITY            with a closed-form head that tells unknown samples: the familiarity of the last image, and the
//                          threshold below which it is of no class, -2000 if there are too few samples for one. With one class:
//                          the lower, the more of an anomaly
//   STATUS                 the network's input, and how much it has learned from: names and values by turns. Lines "PLAN ..."
//                          of the trained layers come first; with candidates of those chosen last, none before the first
//                          choice. "runs": the weights "exported" or "learned"; "saves": deltas in flash, 0 to 2; "lasting": 1
//                          if the board would run the same after a power cycle. With a closed-form head, the first line is
//                          "HEAD <head>", which answers: "ridge", "prototypes" or "none"
//   REVERT                 forget the delta, keep the samples; the saved delta stays
//   RESET                  forget the samples, too; the saved delta stays
// If the caller has slots:
//   SAVE                   write what runs now to flash: the delta or, after REVERT and RESET, "as exported"
//   UNDO                   take back the last SAVE for good: the delta that was saved before it runs again
//   FACTORY                forget samples, delta and all that was saved, for good
// Each is answered by one line, "OK ..." or "ERROR ...". Half a line, whose end does not come, is ignored. `keras-tinytrain
// device` is the other end. tinytrain_teaching.h has further commands, which a program may add.
//
// Lifetime: trainer, name, buffer and slots must outlive the commands. Memory: the object itself, some 80 bytes.
#ifndef TINYTRAIN_SERIAL_H_
#define TINYTRAIN_SERIAL_H_

#include <cstddef>
#include <cstdint>

#include "tinytrain.h"

namespace tinytrain {

constexpr std::int32_t kProtocolVersion = 2;  // 1: images came without a CRC
constexpr char kStop = 3;                     // ends TRAIN; elsewhere it is passed over

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
  // The byte that the next read would give, -1 if none has come yet; it does not wait. nullptr: TRAIN cannot be stopped.
  int (*peek)(void* context) = nullptr;
};

// Further commands, such as kTeaching (tinytrain_teaching.h).
struct MoreCommands {
  const char* names;  // each after ", "
  // True: the line was one of these, and is answered.
  bool (*obey)(Trainer* trainer, const Flash* slots, const char* line, const Port& port);
};

class SerialCommands {
 public:
  // `network` is the name in the answer to STATUS. `buffer` holds one image if the model has no frozen part; else the image
  // goes into the frozen part's input (Trainer::ImageBuffer). `slots` is for SAVE, UNDO and FACTORY; nullptr: there are no such
  // commands. `more` may be nullptr.
  SerialCommands(Trainer* trainer, const Port& port, const char* network, std::int8_t* buffer = nullptr,
                 const Flash* slots = nullptr, const MoreCommands* more = nullptr)
      : trainer_(trainer), port_(port), network_(network), buffer_(buffer), slots_(slots), more_(more) {}

  // Reads one command and answers it. An empty line, or none in time, is no command. The trainer must be initialised.
  void Serve();

  // Writes "ERROR " and the status' text, unless it is kOk; returns whether it is kOk.
  bool Check(Status status);
  // The line "OK ready protocol <kProtocolVersion>".
  void Greet();
  // A line of its own.
  void Say(const char* line);

 private:
  static bool TellLoss(void* self, std::int32_t iteration, float loss);
  bool IsStopped();
  bool ReadLine();
  const std::int8_t* ReadImage(std::uint32_t crc);
  void Teach(std::uint32_t label, std::uint32_t crc);
  void Train();
  void Predict(std::uint32_t crc);
  void Confirm(Status status);
  void TellPlan();
  void TellStatus();
  void Write(const char* text);
  void WriteInteger(std::int32_t value);
  void WriteFloat(float value, int num_decimals, std::uint64_t half);

  Trainer* trainer_;
  Port port_;
  const char* network_;
  std::int8_t* buffer_;
  const Flash* slots_;
  const MoreCommands* more_;
  char line_[24];  // no command is longer
};

}  // namespace tinytrain

#endif  // TINYTRAIN_SERIAL_H_
