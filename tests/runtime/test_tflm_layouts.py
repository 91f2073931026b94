"""Whether a TensorFlow Lite Micro was built with TF_LITE_STATIC_MEMORY or without, a program that does not know it learns alike."""

import pytest

from tests.runtime.test_tflm import host_run, run_bundle
from tests.runtime.tflm import Tflm
from tests.tflm_stand_in import stand_in
from tests.tflm_stand_in.task import task  # noqa: F401


@pytest.mark.parametrize("static_memory", [True, False], ids=["small_tensors", "large_tensors"])
def test_deltas_do_not_depend_on_the_layout_of_tensors(static_memory, task, tmp_path):
    bundle, x, y, _ = task
    library = stand_in.build(tmp_path, float_abi=None, static_memory=static_memory)
    tflm = Tflm(stand_in.INCLUDES, (), (str(library),), "tflite")
    for flags in ((), ("TWO_ARENAS",)):
        folder = tmp_path / "_".join(("program", *flags))
        folder.mkdir()
        lines = run_bundle(bundle, tflm, x, y, folder, *flags)
        assert [line for line in lines if not line.startswith("arena ")] == host_run(bundle, x, y)
