// Pixels and numbers -> the int8 that the board sees: as the command line does it, float32 by float32
// (keras_tinytrain/data/, keras_tinytrain/run/quantise.py).

const f32 = Math.fround;
const WHITE_PIXEL = 255;

// Half to even, as numpy.rint.
function roundEven(value) {
  const down = Math.floor(value), rest = value - down;
  if (rest !== 0.5) return Math.round(value);
  return down % 2 === 0 ? down : down + 1;
}

// stored / white * scale + offset, then q = round(value / input.scale) + input.zero_point, clipped to int8.
function quantise(stored, white, values, input) {
  const scale = f32(values.scale), offset = f32(values.offset), step = f32(input.scale);
  const image = new Int8Array(stored.length);
  for (let i = 0; i < stored.length; ++i) {
    const value = f32(f32(f32(f32(stored[i]) / white) * scale) + offset);
    image[i] = Math.max(-128, Math.min(127, f32(roundEven(f32(value / step)) + input.zero_point)));
  }
  return image;
}

// The real values, before any scale of theirs, that an image stands for: 0..1 of pixels.
function shownValues(image, values, input) {
  return Float32Array.from(image, (q) => ((q - input.zero_point) * input.scale - values.offset) / (values.scale || 1));
}

// RGBA pixels as 1 (grey), 3 or 4 channels; grey is 0.299 R + 0.587 G + 0.114 B, rounded half up.
function withChannels(rgba, channels) {
  const count = rgba.length / 4, pixels = new Uint8ClampedArray(count * channels);
  for (let i = 0; i < count; ++i) {
    const [r, g, b, a] = rgba.subarray(4 * i, 4 * i + 4);
    if (channels === 1) pixels[i] = Math.floor((299 * r + 587 * g + 114 * b + 500) / 1000);
    else pixels.set([r, g, b, a].slice(0, channels), channels * i);
  }
  return pixels;
}

// Where each row or column of a resized picture lies in the original: half-pixel centres.
function places(size, original) {
  const step = f32(original / size);
  return Array.from({ length: size }, (_, i) => {
    const at = f32(f32(f32(i + 0.5) * step) - 0.5), whole = Math.floor(at);
    return { lower: Math.max(0, whole), upper: Math.min(Math.ceil(at), original - 1), share: f32(at - whole) };
  });
}

function between(a, b, share) {
  return f32(a + f32(f32(b - a) * share));
}

// Bilinear, not antialiased: pixels {data, height, width} of `channels` -> Float32Array, 0..255.
function resize(pixels, channels, height, width) {
  const rows = places(height, pixels.height), columns = places(width, pixels.width);
  const resized = new Float32Array(height * width * channels);
  const at = (row, column, channel) => pixels.data[(row * pixels.width + column) * channels + channel];
  let next = 0;
  for (const row of rows) {
    for (const column of columns) {
      for (let c = 0; c < channels; ++c) {
        const top = between(at(row.lower, column.lower, c), at(row.lower, column.upper, c), column.share);
        const bottom = between(at(row.upper, column.lower, c), at(row.upper, column.upper, c), column.share);
        resized[next++] = between(top, bottom, row.share);
      }
    }
  }
  return resized;
}

// A picture {data: RGBA, height, width} as the board's image.
function imageOfPicture(picture, facts) {
  const { height, width, channels } = facts.input;
  const pixels = { ...picture, data: withChannels(picture.data, channels) };
  return quantise(resize(pixels, channels, height, width), WHITE_PIXEL, facts.sample_values, facts.input);
}

// A picture whose boxes of `factor` x `factor` pixels are averaged: a drawing or a camera's picture at the network's size.
function averaged(picture, factor) {
  const height = Math.floor(picture.height / factor), width = Math.floor(picture.width / factor);
  const data = new Uint8ClampedArray(4 * height * width);
  for (let y = 0; y < height; ++y) {
    for (let x = 0; x < width; ++x) {
      for (let c = 0; c < 4; ++c) {
        let sum = 0;
        for (let i = 0; i < factor * factor; ++i) {
          const row = y * factor + Math.floor(i / factor), column = x * factor + (i % factor);
          sum += picture.data[4 * (row * picture.width + column) + c];
        }
        data[4 * (y * width + x) + c] = Math.round(sum / (factor * factor));
      }
    }
  }
  return { data, height, width };
}

function isPicture(input) {
  return input.height > 1 && input.width > 1 && [1, 3, 4].includes(input.channels);
}
