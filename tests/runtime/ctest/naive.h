// Forward passes as plain loops in double, and their gradients as the same loops the other way round.
#ifndef TINYTRAIN_TESTS_NAIVE_H_
#define TINYTRAIN_TESTS_NAIVE_H_

#include <functional>

#include "check.h"
#include "tinytrain/kernels/kernels.h"

namespace naive {

using check::Doubles;
using tinytrain::WindowShape;

// Calls visit(output pixel, input pixel, tap) for each tap of a window that lies on the input.
inline void EachTap(const WindowShape& s, const std::function<void(std::int32_t, std::int32_t, std::int32_t)>& visit) {
  for (std::int32_t oy = 0; oy < s.output_height; ++oy) {
    for (std::int32_t ox = 0; ox < s.output_width; ++ox) {
      for (std::int32_t ky = 0; ky < s.kernel_height; ++ky) {
        for (std::int32_t kx = 0; kx < s.kernel_width; ++kx) {
          const std::int32_t y = oy * s.stride_height + ky - s.pad_top, x = ox * s.stride_width + kx - s.pad_left;
          if (y < 0 || y >= s.input_height || x < 0 || x >= s.input_width) continue;
          visit(oy * s.output_width + ox, y * s.input_width + x, ky * s.kernel_width + kx);
        }
      }
    }
  }
}

// Calls visit(index into output, into input, into kernel) for each product of a convolution: kernel [out][taps][in], or
// depthwise [taps][channels].
inline void EachProduct(const WindowShape& s, bool depthwise,
                        const std::function<void(std::size_t, std::size_t, std::size_t)>& visit) {
  const std::int32_t num_taps = s.kernel_height * s.kernel_width;
  EachTap(s, [&](std::int32_t out, std::int32_t in, std::int32_t tap) {
    for (std::int32_t o = 0; o < s.output_channels; ++o) {
      for (std::int32_t i = depthwise ? o : 0; i < (depthwise ? o + 1 : s.input_channels); ++i) {
        const std::int32_t kernel = depthwise ? tap * s.output_channels + o : (o * num_taps + tap) * s.input_channels + i;
        visit(static_cast<std::size_t>(out * s.output_channels + o), static_cast<std::size_t>(in * s.input_channels + i),
              static_cast<std::size_t>(kernel));
      }
    }
  });
}

inline Doubles Convolution(const Doubles& input, const Doubles& kernel, const WindowShape& s, bool depthwise) {
  Doubles output(static_cast<std::size_t>(s.output_height * s.output_width * s.output_channels));
  EachProduct(s, depthwise, [&](std::size_t o, std::size_t i, std::size_t k) { output[o] += input[i] * kernel[k]; });
  return output;
}

inline Doubles ConvolutionInput(const Doubles& d_output, const Doubles& kernel, const WindowShape& s, bool depthwise) {
  Doubles d_input(static_cast<std::size_t>(s.input_height * s.input_width * s.input_channels));
  EachProduct(s, depthwise, [&](std::size_t o, std::size_t i, std::size_t k) { d_input[i] += d_output[o] * kernel[k]; });
  return d_input;
}

inline Doubles ConvolutionKernel(const Doubles& d_output, const Doubles& input, std::size_t kernel_size, const WindowShape& s,
                                 bool depthwise) {
  Doubles d_kernel(kernel_size);
  EachProduct(s, depthwise, [&](std::size_t o, std::size_t i, std::size_t k) { d_kernel[k] += d_output[o] * input[i]; });
  return d_kernel;
}

inline Doubles AveragePool(const Doubles& input, const WindowShape& s) {
  const auto num_pixels = static_cast<std::size_t>(s.output_height * s.output_width);
  const auto num_channels = static_cast<std::size_t>(s.output_channels);
  Doubles output(num_pixels * num_channels), counts(num_pixels);
  EachTap(s, [&](std::int32_t out, std::int32_t, std::int32_t) { counts[static_cast<std::size_t>(out)] += 1.0; });
  EachTap(s, [&](std::int32_t out, std::int32_t in, std::int32_t) {
    const auto o = static_cast<std::size_t>(out), i = static_cast<std::size_t>(in);
    for (std::size_t c = 0; c < num_channels; ++c) output[o * num_channels + c] += input[i * num_channels + c] / counts[o];
  });
  return output;
}

inline Doubles MaxPool(const Doubles& input, const WindowShape& s) {
  const auto num_channels = static_cast<std::size_t>(s.output_channels);
  Doubles output(static_cast<std::size_t>(s.output_height * s.output_width) * num_channels, -1e30);
  EachTap(s, [&](std::int32_t out, std::int32_t in, std::int32_t) {
    for (std::size_t c = 0; c < num_channels; ++c) {
      double& largest = output[static_cast<std::size_t>(out) * num_channels + c];
      largest = std::fmax(largest, input[static_cast<std::size_t>(in) * num_channels + c]);
    }
  });
  return output;
}

inline Doubles Pad(const Doubles& input, const WindowShape& s) {
  Doubles output(static_cast<std::size_t>(s.output_height * s.output_width * s.output_channels));
  for (std::int32_t y = 0; y < s.input_height; ++y) {
    for (std::int32_t i = 0; i < s.input_width * s.input_channels; ++i) {
      const std::int32_t row = (y + s.pad_top) * s.output_width + s.pad_left;
      output[static_cast<std::size_t>(row * s.input_channels + i)] =
          input[static_cast<std::size_t>(y * s.input_width * s.input_channels + i)];
    }
  }
  return output;
}

inline Doubles LeakyRelu(Doubles values, double slope) {
  for (double& value : values) value *= value > 0.0 ? 1.0 : slope;
  return values;
}

template <typename Function>
Doubles Map(const Doubles& values, const Function& function) {
  Doubles output(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) output[i] = function(values[i], static_cast<std::int32_t>(i));
  return output;
}

inline Doubles Product(const Doubles& a, const Doubles& b) {
  return Map(a, [&b](double x, std::int32_t i) { return x * b[static_cast<std::size_t>(i)]; });
}

// The input as the channels of the output that begin with `first`; the others are 0.
inline Doubles Part(const Doubles& input, const WindowShape& s, std::int32_t first) {
  Doubles output(static_cast<std::size_t>(s.output_height * s.output_width * s.output_channels), 0.0);
  for (std::size_t i = 0; i < input.size(); ++i) {
    const std::size_t pixel = i / static_cast<std::size_t>(s.input_channels),
                      c = i % static_cast<std::size_t>(s.input_channels);
    output[pixel * static_cast<std::size_t>(s.output_channels) + static_cast<std::size_t>(first) + c] = input[i];
  }
  return output;
}

inline double Dot(const Doubles& a, const Doubles& b) {
  double sum = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

}  // namespace naive

#endif  // TINYTRAIN_TESTS_NAIVE_H_
