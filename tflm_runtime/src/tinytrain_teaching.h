// Serial commands for a program that shows what a board was taught, beside those of tinytrain_serial.h:
//   SAMPLES          a line "SAMPLE <place> <label> <crc>" for each kept sample; <crc> is the CRC-32 of what is kept of it, the
//                    frozen part's output without views, so that whoever sent a sample knows it again
//   REMOVE <place>   take a sample back. In RAM those after it move up by a place; in flash its place stays taken until RESET
//   SCORES           the logits of the last PREDICT in thousandths, class by class
//   DELTA            "OK bytes <number>", and so many bytes: the newer saved delta (tinytrain_delta.h), which has its own CRC
//   BLOCK <offset> <crc>, 256 bytes   a part of a delta, which goes into the older slot; offset 0 erases that slot first. The
//   last
//                    block is filled up with 0xFF. Its sequence number must be higher than the saved one's
//   ADOPT <sequence> run the delta that BLOCK wrote, of this sequence number: it is the saved one from now on. One that does
//   not fit is
//                    erased
// The last three need slots. Each command is answered as tinytrain_serial.h says.
//
// Only a program that passes kTeaching to SerialCommands has its code.
#ifndef TINYTRAIN_TEACHING_H_
#define TINYTRAIN_TEACHING_H_

#include "tinytrain_serial.h"

namespace tinytrain {

extern const MoreCommands kTeaching;

}  // namespace tinytrain

#endif  // TINYTRAIN_TEACHING_H_
