"""A task of the demo on a device: in the exported C++ on this machine, or on an emulated board.

It is learned in a process of its own, beside those that Keras learns. TensorFlow is not loaded there.
"""

import concurrent.futures
import dataclasses
import multiprocessing
import os
import pathlib
import signal
import threading
import types
from concurrent.futures import Future

import numpy as np

from keras_tinytrain.data.episodes import Episode
from keras_tinytrain.export.bundle_folder import Bundle
from keras_tinytrain.run.emulation import EmulatedTask, emulate_task
from keras_tinytrain.run.firmware import build_firmware, compile_library
from keras_tinytrain.run.host import HostRuntime

NUM_COMPARED = 50  # samples on which the reloaded C++ is compared


@dataclasses.dataclass(frozen=True, eq=False)
class HostTask:
    """A task as the exported C++ learned it on this machine.

    Args:
        logits: (N, num_classes) of the queries.
        losses: of its iterations.
        delta: what was learned.
        bytes_used: as the running C++ reports them, with the keys of `Bundle.promised_bytes`.
        reloads: whether a fresh copy of the C++ answers the same from the saved delta.
    """

    logits: np.ndarray
    losses: list[float]
    delta: bytes
    bytes_used: dict[str, dict[str, int]]
    reloads: bool


def learn_on_host(bundle: Bundle, episode: Episode) -> HostTask:
    """Learn and answer in the bundle's C++, save, and answer again from what was saved."""
    runtime = HostRuntime(bundle)
    runtime.add_samples(episode.support_x, episode.support_y)
    losses = runtime.train()
    logits, delta = runtime.predict(episode.query_x), runtime.trainer.save_delta(0)
    fresh = HostRuntime(Bundle.load(bundle.path))
    fresh.trainer.load_delta(delta)
    reloads = np.array_equal(fresh.predict(episode.query_x[:NUM_COMPARED]), logits[:NUM_COMPARED])
    return HostTask(logits, losses, delta, runtime.bytes_used(), reloads)


def learn_on_board(bundle: Bundle, episode: Episode, library: list[pathlib.Path], folder: pathlib.Path) -> EmulatedTask:
    """Learn and answer on an emulated board, by a firmware of `library`'s objects that is built in `folder`."""
    program = build_firmware(bundle, folder, library=library)
    return emulate_task(bundle, episode.support_x, episode.support_y, queries=episode.query_x, program=program)


class Devices:
    """One process for each processor of this machine, in which devices learn. They end with this process, however it ends.

    A context manager.

    Args:
        folder: for the firmware.
        emulate: whether an emulated board learns too.
    """

    def __init__(self, folder: pathlib.Path, *, emulate: bool):
        self._pool = concurrent.futures.ProcessPoolExecutor(
            os.cpu_count(), multiprocessing.get_context("spawn"), initializer=_begin
        )
        self._folder = folder
        self._library = self._pool.submit(compile_library, _made(folder / "library")) if emulate else None

    def __enter__(self) -> "Devices":  # noqa: PYI034  typing.Self needs Python 3.11
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def learn_on_host(self, bundle: Bundle, episode: Episode) -> Future[HostTask]:
        """Begin a task in C++ on this machine."""
        return self._pool.submit(learn_on_host, bundle, episode)

    def learn_on_board(self, bundle: Bundle, episode: Episode) -> Future[EmulatedTask] | None:
        """Begin a task on an emulated board; None where there is none."""
        if self._library is None:
            return None
        folder = _made(self._folder / f"firmware_of_{bundle.path.name}")
        return self._pool.submit(learn_on_board, bundle, episode, self._library.result(), folder)


def _made(folder):
    folder.mkdir()
    return folder


def _begin():
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it without a word
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent():
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
