"""Run a bundle on the host: the same tables, the same C++ trainer and TensorFlow Lite Micro's own kernels."""

import dataclasses
import os

from keras_tinytrain.choose.training_memory import TrainingMemory
from keras_tinytrain.export.bundle_folder import Bundle
from keras_tinytrain.export.limits import flash_bytes
from keras_tinytrain.export.tflite.arena import smallest_arena
from keras_tinytrain.run._checked_tables import checked_tables
from keras_tinytrain.run.bundle_runtime import BundleRuntime, Settings, checked_bundle, runtime_module
from keras_tinytrain.run.micro_model import MicroModel
from keras_tinytrain.run.nor_flash import NorFlash
from keras_tinytrain.tflm_runtime.rounding import whole_pages


class HostRuntime(BundleRuntime):
    """A bundle's trainer on the host. It computes the same numbers as the device.

    The scratch is overwritten whenever the frozen part runs, as on the device.
    Calls from several threads wait for each other; a call from within `progress` is a RuntimeError.

    Args:
        bundle: a `Bundle`, or the path of one.
        settings: values to use instead of the bundle's own, such as {"iterations": 10}.

    Attributes:
        feature_flash: the flash that holds the samples' features; None: they are in RAM.
        slots: the flash that holds two deltas, as large as the board's; None: the board's page size is not known.

    Raises:
        ValueError: the bundle was altered, or was exported for another version of the runtime. The error names the release
            of keras-tinytrain that runs it.
        ImportError: tflite-micro or the compiled runtime is not installed.

    Example:
        >>> host = HostRuntime("build/faces")  # doctest: +SKIP
        >>> host.add_samples(x_support, y_support)  # doctest: +SKIP
        >>> losses = host.train()  # doctest: +SKIP
        >>> labels = host.predict(x_query).argmax(axis=1)  # doctest: +SKIP
    """

    def __init__(self, bundle: Bundle | str | os.PathLike, *, settings: Settings | None = None):
        bundle = checked_bundle(bundle)
        self._tables = checked_tables(bundle)
        frozen, trainable = bundle.frozen, bundle.trainable
        self._trainable = MicroModel(trainable, smallest_arena(trainable))
        self._frozen = MicroModel(frozen, smallest_arena(frozen)) if frozen else None
        tables, page_bytes = self._tables.address, bundle.manifest["board"]["flash_page_bytes"]
        self.feature_flash: NorFlash | None = None
        if bundle.manifest["features"]["memory"] == "flash":
            num_bytes = whole_pages(runtime_module().flash_samples_bytes(tables, settings), page_bytes)
            self.feature_flash = NorFlash(num_bytes + self._head_in_flash(bundle, settings), page_bytes=page_bytes)
        super().__init__(
            bundle,
            tables,
            self._trainable,
            self._frozen,
            settings=settings,
            owner=self._tables,
            flash=self.feature_flash,
            maps=self._tables.maps,
        )
        slots_bytes = bundle.manifest["flash"]["deltas"]  # with candidates: room for whatever will be chosen
        self.slots = NorFlash(slots_bytes, page_bytes=page_bytes) if slots_bytes else None

    def save_to_flash(self) -> None:
        """Write what runs now into the older of the two slots, as the device does: what was learned or, after `revert`, nothing.

        Raises:
            RuntimeError: the board's flash is not known.
        """
        self.trainer.save_to_flash(self._slots())

    def load_from_flash(self) -> None:
        """Take over the newer of the two slots. Raises ValueError where none of them holds a delta of this base model."""
        self.trainer.load_from_flash(self._slots())

    def undo(self) -> None:
        """Take back the last `save_to_flash` for good: what was saved before it runs again.

        Raises:
            RuntimeError: nothing older is saved, or the board's flash is not known.
        """
        self.trainer.undo_save(self._slots())

    def factory(self) -> None:
        """Go back to the weights as exported for good: the samples and both slots are forgotten."""
        self.trainer.factory_reset(self._slots())

    def bytes_used(self) -> dict[str, dict[str, int]]:
        """Bytes with the keys of `Bundle.promised_bytes`: those that the trainer reports here, and sizes of files.

        TensorFlow Lite Micro's arenas, a sketch's variables and code are the promised ones, since this host has others. To
        measure them, run the bundle on the emulated board (`keras-tinytrain emulate`, `benchmark tflm`).
        """
        memory = TrainingMemory.of(self.trainer.memory_parts())
        if self._tables.maps:
            head = self.trainer.closed_form_bytes()
            solving = head[
                "scratch" if head["scratch_rows"] > self.bundle.manifest["closed_form"]["scratch_bytes"] else "scratch_rows"
            ]
            memory = dataclasses.replace(memory, closed_form=head["state"], solving=solving)
        flash = flash_bytes(
            self.bundle.frozen,
            self.bundle.trainable,
            tables=self._tables.num_bytes,
            features=self.feature_flash.data.size if self.feature_flash else 0,
            deltas=self.slots.data.size if self.slots else 0,
            **{part: num_bytes for part, num_bytes in self.bundle.promised_bytes["flash"].items() if part == "code"},
        )
        manifest = self.bundle.manifest
        sram = memory.sram(**manifest["arenas"], variables=manifest["sram"].get("variables", 0))
        return {"sram": sram, "scratch": memory.scratch, "flash": flash}

    def _head_in_flash(self, bundle: Bundle, settings: Settings | None) -> int:
        """Bytes, whole pages, of a closed-form head: its solutions, and its rows where the scratch has no room for them."""
        if not self._tables.maps:
            return 0
        head = runtime_module().closed_form_bytes(self._tables.address, self._tables.maps, settings, samples_in_flash=True)
        page_bytes, average = (
            bundle.manifest["board"]["flash_page_bytes"],
            {**bundle.manifest["training"], **(settings or {})}["average"],
        )
        num_solutions = 1 + bool(average) + bool(bundle.manifest["closed_form"].get("reject_unknown"))
        solutions = num_solutions * whole_pages(head["flash_weights"], page_bytes)
        in_scratch = head["scratch_rows"] <= bundle.manifest["closed_form"]["scratch_bytes"]
        return solutions + (0 if in_scratch else whole_pages(head["flash_rows"], page_bytes))

    def _slots(self) -> NorFlash:
        if self.slots is None:
            name = self.bundle.manifest["board"]["name"]
            raise RuntimeError(f"Board {name!r} has no slots in flash: export with Board.flash_page_bytes set.")
        return self.slots
