"""Labels of a task, checked before anything is computed with them."""

import numpy as np
from numpy.typing import ArrayLike

_NUMBER = "np.unique(y, return_inverse=True)[1]"
_MORE = (
    " Export the bundle for {0} classes: `training=TrainingSettings(num_classes={0})` (on the command line: plan and export it with "
    "samples of all of them)."
)


def check_labels(
    y: ArrayLike, num_samples: int, num_classes: int | None = None, *, source: str = "", is_exported: bool = False
) -> None:
    """Raise ValueError where `y` is not one integer for each sample, or one of them is not below `num_classes`.

    Args:
        y: the labels.
        num_samples: N.
        num_classes: that are known; None for any number.
        source: the file that they were read from, for the message.
        is_exported: the number of classes is a bundle's, so that the message says how to export it for more.
    """
    y = np.asarray(y)
    if y.shape != (num_samples,) or not np.issubdtype(y.dtype, np.integer):
        received = f"{y.dtype} of shape {y.shape}{_remedy(y, num_samples)}"
        raise _error(source, f"expected one integer label for each of {num_samples} samples. Received: {received}.")
    if num_classes is not None and len(y) and not (y.min() >= 0 and y.max() < num_classes):
        raise _error(
            source,
            f"expected labels 0..{num_classes - 1}. Received {y.min()}..{y.max()}.{_out_of_range(y, num_classes, is_exported)}",
        )


def check_classes(y: ArrayLike, *, source: str = "") -> int:
    """The number of classes of labels that `check_labels` let pass.

    Raises:
        ValueError: there are fewer than two classes, or they are not 0..K-1.
    """
    present = np.unique(y)
    if len(present) < 2:
        found = f"all {np.size(y)} samples have label {present[0]}" if len(present) else "there are no samples"
        raise _error(source, f"{found}; at least two classes are needed.")
    if present.tolist() != list(range(len(present))):
        raise _error(
            source,
            f"labels must be 0..K-1 with every class present. Received {present.tolist()}: {_NUMBER} numbers them from 0.",
        )
    return len(present)


def _error(source, text):
    return ValueError(f"{source}: {text}" if source else text[0].upper() + text[1:])


def _out_of_range(y, num_classes, is_exported):
    if y.min() > 0 and len(np.unique(y)) <= num_classes:
        return f" {_NUMBER} numbers them from 0."
    return _MORE.format(y.max() + 1) if is_exported and y.min() >= 0 else ""


def _remedy(y, num_samples):
    """What makes labels of `y`, as the end of a sentence; "" where nothing does."""
    if len(y) != num_samples if y.ndim else True:
        return ""
    if y.ndim == 2 and y.shape[1] == 1:
        return ": y.ravel() has one for each"
    if y.ndim == 2 and y.dtype.kind in "biuf" and np.all(np.sort(y, axis=1) == [0] * (y.shape[1] - 1) + [1]):
        return ", one-hot rows: y.argmax(axis=1) are their labels"
    if y.ndim == 1 and y.dtype.kind in "USO":
        return f", such as {y.tolist()[:3]}: {_NUMBER} numbers them from 0"
    if y.ndim == 1 and y.dtype.kind in "bf" and np.all(y == np.floor(y)):
        return ": y.astype(int) has integers"
    if y.dtype.kind in "biuf":
        return ": one class a sample is learned here; values, or several classes at once, train in Keras with TinyTrainCallback"
    return ""
