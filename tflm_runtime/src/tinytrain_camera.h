// Makes the network's input of a camera's picture. It needs no Arduino: the picture is a pointer.
#ifndef TINYTRAIN_CAMERA_H_
#define TINYTRAIN_CAMERA_H_

#include "tinytrain/numerics/strict_float.h"

#include <cstddef>
#include <cstdint>

#include "tinytrain/numerics/math.h"
#include "tinytrain_tables.h"

namespace tinytrain {

struct Picture {
  const std::uint8_t* pixels;  // row by row; grey: 1 byte each; colour: 2 bytes each, RGB565 with the high byte first
  std::int32_t width;
  std::int32_t height;
  bool is_colour;
};

// Brightness of a pixel's channel, 0 to 255. Grey has one channel, colour has red, green and blue.
inline std::int32_t PixelOf(const Picture& picture, std::int32_t x, std::int32_t y, std::int32_t channel) {
  const std::int32_t index = y * picture.width + x;
  if (!picture.is_colour) return picture.pixels[index];
  const std::int32_t pixel = picture.pixels[2 * index] << 8 | picture.pixels[2 * index + 1];
  if (channel == 1) return (pixel >> 5 & 63) * 255 / 63;
  return (channel == 0 ? pixel >> 11 : pixel & 31) * 255 / 31;
}

// Fills `image`, int8 [image_height][image_width][image_channels], with the means of equal parts of the whole picture. A value
// of the network is brightness / 255 * value_scale + value_offset, as the samples had it that the bundle was exported with.
inline void FillImage(const Picture& picture, const Tables& tables, float value_scale, float value_offset, std::int8_t* image) {
  for (std::int32_t y = 0; y < tables.image_height; ++y) {
    const std::int32_t top = y * picture.height / tables.image_height, below = (y + 1) * picture.height / tables.image_height;
    const std::int32_t bottom = below > top ? below : top + 1;
    for (std::int32_t x = 0; x < tables.image_width; ++x) {
      const std::int32_t left = x * picture.width / tables.image_width, next = (x + 1) * picture.width / tables.image_width;
      const std::int32_t right = next > left ? next : left + 1;
      for (std::int32_t channel = 0; channel < tables.image_channels; ++channel) {
        std::int32_t sum = 0;
        for (std::int32_t row = top; row < bottom; ++row) {
          for (std::int32_t column = left; column < right; ++column) sum += PixelOf(picture, column, row, channel);
        }
        const float mean = static_cast<float>(sum) / static_cast<float>((bottom - top) * (right - left));
        const float value = mean / 255.0F * value_scale + value_offset;
        const float q = RoundToEven(value / tables.image_scale) + static_cast<float>(tables.image_zero_point);
        *image++ = static_cast<std::int8_t>(!(q > -128.0F) ? -128.0F : q > 127.0F ? 127.0F : q);
      }
    }
  }
}

}  // namespace tinytrain

#endif  // TINYTRAIN_CAMERA_H_
