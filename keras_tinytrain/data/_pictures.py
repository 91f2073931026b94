"""Pictures in a folder of class folders, found and read one by one, so that one that cannot be read is named."""

import pathlib

import numpy as np

_READ = (".bmp", ".gif", ".jpeg", ".jpg", ".png")
_FORMATS = ("BMP", "GIF", "JPEG", "PNG")
_NOT_READ = (".avif", ".heic", ".tif", ".tiff", ".webp")  # pictures all the same: to be converted, not to be passed over


def find_pictures(folder: pathlib.Path) -> dict[str, list[pathlib.Path]]:
    """{class name: its pictures at any depth}, in alphabetical order, without hidden files and folders.

    Raises:
        ValueError: there are fewer than two classes, one without pictures, or pictures of a format that is not read.
    """
    classes = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if len(classes) < 2:
        raise ValueError(f"{folder} needs one folder of pictures per class, at least two. Received: {len(classes)}")
    return {entry.name: _pictures(entry) for entry in classes}


def read_picture(path: pathlib.Path, *, height: int, width: int, channels: int) -> np.ndarray:
    """A picture as float32 (height, width, channels), 0..255; of an animation the first frame.

    It is resized bilinearly; grey, colour and transparency become as many channels as asked for. TensorFlow is not needed: a
    command that teaches a board reads pictures too.

    Raises:
        ValueError: it is no picture that can be read.
        ImportError: Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError("Reading pictures needs Pillow. Install it with: pip install pillow") from error
    try:
        with Image.open(path, formats=_FORMATS) as image:
            pixels = _decoded(image)
    except Exception as error:  # Pillow has many errors for damaged files: OSError, SyntaxError, struct.error and others
        raise ValueError(
            f"{path} is not an image that can be read: it is damaged, too large, or not what its name says. Remove it, or save it "
            "again as PNG or JPEG."
        ) from error
    return _resized(_with_channels(pixels, channels), height, width)


def _decoded(image):
    """uint8 pixels (height, width, 3 or 4); of 16 bits the upper 8."""
    if image.mode.startswith("I"):
        grey = (np.asarray(image).astype(np.int64) >> 8).astype(np.uint8)
        return grey[..., None].repeat(3, axis=-1)
    return np.asarray(image.convert("RGBA" if image.has_transparency_data else "RGB"))


def _with_channels(pixels, channels):
    """uint8 pixels (height, width, 3 or 4) with another number of channels; grey is 0.299 R + 0.587 G + 0.114 B, rounded half up,
    in whole numbers, so that a browser computes the same (export/page/templates/prepare.js)."""
    colours = pixels[..., :3]
    if channels == 1:
        return ((colours @ np.array([[299], [587], [114]]) + 500) // 1000).astype(np.uint8)
    opaque = pixels[..., 3:] if pixels.shape[-1] == 4 else np.full_like(colours[..., :1], 255)
    return colours if channels == 3 else np.concatenate([colours, opaque], axis=-1)


def _resized(pixels, height, width):
    """float32 (height, width, C): bilinear between the centres of pixels, as `tf.image.resize` computes it."""
    above, below, down = _between(pixels.shape[0], height)
    left, right, across = _between(pixels.shape[1], width)
    values, across, down = pixels.astype(np.float32), across[:, None], down[:, None, None]
    upper = values[above][:, left] + (values[above][:, right] - values[above][:, left]) * across
    lower = values[below][:, left] + (values[below][:, right] - values[below][:, left]) * across
    return upper + (lower - upper) * down


def _between(old, new):
    """Of each new pixel along an axis: the two old ones that it lies between, and its distance from the first, float32."""
    centres = (np.arange(new, dtype=np.float32) + np.float32(0.5)) * np.float32(old / new) - np.float32(0.5)
    first = np.floor(centres)
    return np.maximum(first, 0).astype(int), np.minimum(np.ceil(centres), old - 1).astype(int), centres - first


def _pictures(folder):
    files = sorted(path for path in folder.rglob("*") if path.suffix and not _is_hidden(path.relative_to(folder)))
    odd = [path for path in files if path.suffix.lower() in _READ and not path.is_file()]
    if odd:
        raise ValueError(f"{odd[0]} is no ordinary file. Remove it from the samples.")
    foreign = [path for path in files if path.suffix.lower() in _NOT_READ]
    if foreign:
        raise ValueError(f"{foreign[0]} is of a format that is not read. Save it as PNG or JPEG. Read are {', '.join(_READ)}.")
    found = [path for path in files if path.suffix.lower() in _READ]
    if not found:
        raise ValueError(f"{folder} holds no pictures ({', '.join(_READ)}). Put some there, or remove the folder.")
    return found


def _is_hidden(path):
    return any(part.startswith(".") for part in path.parts)
