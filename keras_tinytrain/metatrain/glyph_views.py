"""Random views of glyphs, as other hands and other scanners give them, for meta-training."""

import math

import numpy as np
import tensorflow as tf

MAX_DILATIONS = 4  # pixels on either side of a stroke whose glyph fills the frame
MAX_LOG_ASPECT = 0.35
MAX_SHEAR = 0.2
MAX_SHIFT = 0.08
MAX_TURN = math.radians(15)
COARSE_SIZES = (7, 15)  # pixels, half-open


def glyph_boxes(images: np.ndarray) -> np.ndarray:
    """Bounding boxes of the ink.

    Args:
        images: (N, H, W, 1), ink above 0.25 of 1.

    Returns:
        float32 (N, 3): centre y, centre x and half of the longer side, as fractions of half the frame, from its centre.
    """
    ink = images[..., 0] > 0.25
    spans = []
    for axis in (2, 1):  # rows that hold ink, then columns
        line = ink.any(axis=axis)
        first, last = line.argmax(axis=1), line.shape[1] - line[:, ::-1].argmax(axis=1)
        spans.append(np.stack([first + last, last - first], axis=1) / line.shape[1] - [1, 0])
    (y, height), (x, width) = spans[0].T, spans[1].T
    return np.stack([y, x, np.maximum(height, width)], axis=1).astype(np.float32)


def glyph_views(
    glyphs: tf.Tensor, boxes: tf.Tensor, turns: tf.Tensor, seed: tf.Tensor, *, size: int, num_styles: int
) -> tf.Tensor:
    """One random view of each glyph: pen width, affine distortion, scan resolution, contrast and noise.

    Args:
        glyphs: uint8 (N, H, W, 1), ink 255 on 0, larger than `size` so that strokes stay sharp.
        boxes: float32 (N, 3) of `glyph_boxes`.
        turns: int (N,), quarter turns that come on top (they make new classes).
        seed: int (2,) tensor; the views are a pure function of it.
        size: views are size x size pixels.
        num_styles: the batch is cut into so many equal parts, each scanned at one resolution. Divides N.

    Returns:
        float32 (N, size, size, 1) in [0, 1].
    """
    seeds = tf.unstack(tf.random.split(seed, 4))
    strokes = _with_pen_width(tf.cast(glyphs, tf.float32) / 255, boxes, seeds[0])
    views = _with_affine(strokes, boxes, turns, seeds[1], size)
    parts = tf.split(views, num_styles)
    part_seeds = tf.unstack(tf.random.split(seeds[2], num_styles))
    views = tf.concat([_with_resolution(part, s, size) for part, s in zip(parts, part_seeds)], axis=0)
    return _with_contrast(views, seeds[3])


def _with_pen_width(x, boxes, seed):
    """Blend of the neighbouring two of 0..MAX_DILATIONS dilations, so that widths vary continuously."""
    width = tf.random.stateless_uniform([tf.shape(x)[0]], seed, 0, MAX_DILATIONS) * boxes[:, 2]
    x = tf.transpose(x, [3, 1, 2, 0])  # (1, H, W, N): pooling is fast along the last axis only
    blend = tf.zeros_like(x)
    for level in range(MAX_DILATIONS + 1):
        blend += x * tf.maximum(0.0, 1 - tf.abs(width - level))
        x = tf.nn.max_pool2d(x, 3, 1, "SAME")
    return tf.transpose(tf.nn.avg_pool2d(blend, 2, 1, "SAME"), [3, 1, 2, 0])


def _with_affine(x, boxes, turns, seed, size):
    """Each output pixel o reads input centre + extent * A o, o in [-1, 1]^2, A = rotation * shear * aspect."""
    u = lambda low, high, index: tf.random.stateless_uniform([tf.shape(x)[0]], tf.random.fold_in(seed, index), low, high)
    fitted = tf.cast(u(0, 1, 0) < 0.6, tf.float32)  # the ink's box fills the frame, or the frame stays as it was
    extent = fitted * boxes[:, 2] / u(0.7, 1.05, 1) + (1 - fitted) / u(0.8, 1.15, 1)
    centre = fitted[:, None] * boxes[:, :2]
    angle = u(-MAX_TURN, MAX_TURN, 2) + tf.cast(turns, tf.float32) * (math.pi / 2)
    shear, aspect = u(-MAX_SHEAR, MAX_SHEAR, 3), tf.exp(u(-MAX_LOG_ASPECT, MAX_LOG_ASPECT, 4))
    cos, sin = tf.cos(angle), tf.sin(angle)
    xx, xy = cos * aspect, (cos * shear - sin) / aspect
    yx, yy = sin * aspect, (sin * shear + cos) / aspect
    dy, dx = u(-MAX_SHIFT, MAX_SHIFT, 5) * 2, u(-MAX_SHIFT, MAX_SHIFT, 6) * 2
    middle_in, middle_out = (x.shape[1] - 1) / 2, (size - 1) / 2
    pixel = extent * x.shape[1] / size
    offset_x = middle_in + x.shape[1] / 2 * (centre[:, 1] + extent * dx) - pixel * (xx + xy) * middle_out
    offset_y = middle_in + x.shape[1] / 2 * (centre[:, 0] + extent * dy) - pixel * (yx + yy) * middle_out
    zeros = tf.zeros_like(pixel)
    rows = [pixel * xx, pixel * xy, offset_x, pixel * yx, pixel * yy, offset_y, zeros, zeros]
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=x,
        transforms=tf.stack(rows, axis=1),
        output_shape=[size, size],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )


def _with_resolution(x, seed, size):
    """Half of the time: averaged down to a coarse grid and interpolated back, like a low-resolution scan."""
    coarse = tf.random.stateless_uniform([], seed, *COARSE_SIZES, dtype=tf.int32)
    skip = tf.random.stateless_uniform([], tf.random.fold_in(seed, 1)) < 0.5
    grid = tf.where(skip, size, coarse)
    down = tf.image.resize(x, tf.stack([grid, grid]), method="area")
    return tf.ensure_shape(tf.image.resize(down, [size, size]), [None, size, size, x.shape[3]])


def _with_contrast(x, seed):
    shape = [tf.shape(x)[0], 1, 1, 1]
    gain = tf.random.stateless_uniform(shape, seed, 0.7, 1.5)
    noise = tf.random.stateless_uniform(shape, tf.random.fold_in(seed, 1), 0, 0.06)
    noise *= tf.random.stateless_normal(tf.shape(x), tf.random.fold_in(seed, 2))
    return tf.clip_by_value(tf.clip_by_value(gain * x, 0, 1) + noise, 0, 1)
