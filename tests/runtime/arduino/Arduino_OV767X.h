// A stand-in of the camera's library: it plays the pictures in the file that PICTURES names, 160 x 120 pixels each.
#ifndef ARDUINO_OV767X_H_
#define ARDUINO_OV767X_H_

#include <cstdio>
#include <cstdlib>

enum { QQVGA = 4 };
enum { RGB565 = 2, GRAYSCALE = 3 };

class PicturePlayer {
 public:
  int begin(int resolution, int format, int) {
    bytes_ = static_cast<std::size_t>(width() * height() * (format == RGB565 ? 2 : 1));
    file_ = std::fopen(std::getenv("PICTURES"), "rb");
    return file_ != nullptr && resolution == QQVGA;
  }
  int width() const { return 160; }
  int height() const { return 120; }
  void readFrame(void* frame) {
    if (std::fread(frame, 1, bytes_, file_) != bytes_) std::exit(1);  // more is asked for than was taken
  }

 private:
  std::FILE* file_ = nullptr;
  std::size_t bytes_ = 0;
};
static PicturePlayer Camera;

#endif  // ARDUINO_OV767X_H_
