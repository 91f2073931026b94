"""A stranger's bundle is data: nothing of it runs, nothing outside it is read, and whatever contradicts itself is refused."""

import json
import os
import pathlib
import re
import shutil
import threading

import numpy as np
import pytest
from compiled_tables import CompiledTables
from models import images, small_net
from trust.fuzz_bundles import KINDS, closed_form_learned, exported, fuzz, learned, trainer_of, write
from trust.mutations import mutations, with_crc
from trust.trials import SEED, trials

from keras_tinytrain import _runtime
from keras_tinytrain.cli import main
from keras_tinytrain.export import Bundle, export_tflm
from keras_tinytrain.export.bundle_folder import MANIFEST
from keras_tinytrain.export.read_tables import ReadTables
from keras_tinytrain.export.tables_source import TablesSource
from keras_tinytrain.plan import LayerPlan, Plan
from keras_tinytrain.run import HostRuntime
from keras_tinytrain.run._checked_tables import checked_tables
from keras_tinytrain.run._rendered_sources import render_bundle
from keras_tinytrain.run.micro_model import MicroModel

WRITTEN = pathlib.Path(__file__).parents[1] / "fixtures" / "version_0_1" / "bundle"


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return exported(tmp_path_factory.mktemp("exported"))


@pytest.fixture(scope="module")
def task():
    with np.load(WRITTEN.parent / "task.npz") as arrays:
        return arrays["x"], np.arange(len(arrays["x"])) % 2


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_bundles_are_refused_or_learn(good, kind, tmp_path, tried):
    count, refused = fuzz(good, kind, trials(300), SEED, tmp_path / "bad")
    assert refused > count // 2
    tried(f"damaged {kind}, digests repaired", count, refused)


@pytest.fixture(scope="module")
def trainers(good, tmp_path_factory):
    """{kind of head: a trainer that learned}; the second has a closed-form head that tells samples of no class."""
    tables = checked_tables(good)
    info = _runtime.tables_info(tables.address)
    return {
        "prototypes": learned(trainer_of(tables, info), info),
        "ridge": closed_form_learned(tmp_path_factory.mktemp("ridge")),
    }


@pytest.mark.parametrize("head", ["prototypes", "ridge"])
def test_damaged_deltas_are_refused_or_loaded_as_they_are(trainers, head, tried):
    """By the C++, with checksums that are right again."""
    trainer = trainers[head]
    delta, refused, count = trainer.save_delta(), 0, trials(2000)
    for damaged in map(with_crc, mutations(delta, count, SEED)):
        before = trainer.save_delta()
        try:
            trainer.load_delta(damaged)
        except ValueError as error:
            refused += 1
            assert str(error) and trainer.save_delta() == before
        else:
            trainer.load_delta(delta)
    assert refused > count // 3
    tried("damaged delta, checksum repaired, on the device", count, refused)


NAMES = ("bundle_x {}\nint evil", "int", "std", "bundle_x\n", "")


@pytest.mark.parametrize("name", NAMES)
def test_a_namespace_is_an_identifier(good, name, tmp_path):
    write(good, tmp_path / "bad", {MANIFEST: {**good.manifest, "namespace": name}})
    with pytest.raises(ValueError, match="namespace"):
        Bundle.load(tmp_path / "bad")


SAYS = {
    "input": {"scale": 2.5},
    "sram": {"total": 7},
    "output": {"size": 9},
    "flash": {"frozen_model": 1},
    "training": {"seed": 5},
}


@pytest.mark.parametrize("field", SAYS)
def test_the_manifest_says_what_the_files_say(good, field, tmp_path, capsys):
    manifest = {**good.manifest, field: good.manifest[field] | SAYS[field]}
    write(good, tmp_path / "bad", {MANIFEST: manifest})
    assert main(["check", str(tmp_path / "bad")]) == 2
    assert f"was altered after the export: {field} is " in capsys.readouterr().err


def test_a_changed_manifest_is_noticed(good, tmp_path):
    shutil.copytree(good.path, tmp_path / "bad")
    manifest = {**good.manifest, "layers": ["another"]}
    (tmp_path / "bad" / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="manifest.json was altered after the export: its digest"):
        Bundle.load(tmp_path / "bad")


@pytest.mark.parametrize("name", ["../../etc/hostname", "/etc/hostname", "sketch/../../x", "more.txt"])
def test_only_the_files_of_an_export_are_listed(good, name, tmp_path):
    write(good, tmp_path / "bad", {MANIFEST: {**good.manifest, "files": good.manifest["files"] | {name: "0" * 64}}})
    with pytest.raises(ValueError, match="files: Additional properties"):
        Bundle.load(tmp_path / "bad")


@pytest.mark.parametrize("name", ["plan.json", "sketch", MANIFEST])
def test_a_link_out_of_the_folder_is_refused(good, name, tmp_path):
    bad = shutil.copytree(good.path, tmp_path / "bad")
    os.rename(bad / name, tmp_path / "elsewhere")
    os.symlink(tmp_path / "elsewhere", bad / name)
    with pytest.raises(ValueError, match="is a link"):
        Bundle.load(bad)


def test_a_pipe_is_no_file_of_a_bundle(good, tmp_path):
    bad = shutil.copytree(good.path, tmp_path / "bad")
    (bad / MANIFEST).unlink()
    os.mkfifo(bad / MANIFEST)
    with pytest.raises(ValueError, match="is missing from the bundle"):
        Bundle.load(bad)


LINES = {
    "code": "const int kRun = system(1);",
    "a constructor": "__attribute__((constructor)) static void f() {}",
    "an include": '#include "/etc/passwd"',
    "an octal number": "const std::uint16_t kOctal[] = {010};",
    "a number too large": "const std::uint16_t kLarge[] = {65536};",
    "a comment over two lines": "// text \\\nconst std::uint16_t kHidden[] = {1};",
    "a constant twice": "const std::uint16_t kOnce[] = {1};\nconst std::uint16_t kOnce[] = {1};",
    "endless braces": "const std::uint16_t kDeep[] = " + "{" * 100_000,
    "a pointer to itself": "const tinytrain::TrainedLayer kSelf[] = {{kSelf, 0, 0, 0, 0, kSelf, nullptr, nullptr}};",
}


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_tables_hold_constants_and_nothing_else(good, line, tmp_path):
    text = (
        (good.path / "tables.cpp")
        .read_text()
        .replace("const tinytrain::Tensor kTensors", f"{line}\nconst tinytrain::Tensor kTensors")
    )
    (tmp_path / "tables.cpp").write_text(text)
    with pytest.raises(ValueError, match="is not written as this release"):
        ReadTables(tmp_path / "tables.cpp", good.trainable)


LENGTHS = {  # what stands in the tables, and what is put in its place: C++ would count beyond an array
    "tensors": (r", kTensors,", "9, kTensors,"),
    "trained": (r", kTrained,", "9, kTrained,"),
    "views": (r", kViews,", "9, kViews,"),
    "kernel": ("TINYTRAIN_KERNEL(", "TINYTRAIN_KERNEL(9"),
    "scales": ("const float kScales0[] = {", "const float kScales0[] = {1.0f, "),
}


@pytest.mark.parametrize("case", LENGTHS)
def test_arrays_are_as_long_as_the_tables_say(good, case, tmp_path):
    old, new = LENGTHS[case]
    text = (good.path / "tables.cpp").read_text()
    where = text.rindex(old)
    write(good, tmp_path / "bad", {"tables.cpp": (text[:where] + new + text[where + len(old) :]).encode()})
    with pytest.raises(ValueError, match="tables.cpp"):
        checked_tables(Bundle.load(tmp_path / "bad"))


def test_an_output_that_holds_tensors_of_two_sizes_is_refused(good, tmp_path):
    """The backward pass would read the larger one past the smaller one's end."""
    text = (good.path / "tables.cpp").read_text()
    rows = re.findall(r"^    \{(\d+), (\d+), (\d+), ([^,]+), (-?\d+), (\d+),(.*)$", text, re.MULTILINE)
    row = next(row for row in rows if row[5] != "0")
    old, new = ("    {{{}, {}, {}, {}, {}, {},{}".format(*row[:5], kept, row[6]) for kept in (row[5], "0"))
    write(good, tmp_path / "bad", {"tables.cpp": text.replace(old, new).encode()})
    with pytest.raises(ValueError, match="tables.cpp: output 0 of trainable.tflite is said to have "):
        HostRuntime(tmp_path / "bad")


def test_the_trainer_reads_no_further_than_an_output_goes(good):
    tables = checked_tables(good)
    info = _runtime.tables_info(tables.address)
    first, *others = info["tensors"]
    short = trainer_of(tables, {**info, "tensors": [first, *({**each, "shape": (1, 1, 1)} for each in others)]})
    with pytest.raises(ValueError, match="what run_trainable returns must have .* elements, received 1"):
        learned(short, info)


def test_the_tables_that_a_board_gets_are_those_that_were_read(good, tmp_path):
    """Sizes and values as the compiler makes them of the rendered text."""
    rendered = Bundle(tmp_path, good.manifest, good.plan)
    render_bundle(good, tmp_path)
    compiled, read = CompiledTables(rendered, tmp_path), checked_tables(good)
    np.testing.assert_equal(_runtime.tables_info(compiled.address), _runtime.tables_info(read.address))
    assert compiled.num_bytes == read.num_bytes == good.promised_bytes["flash"]["tables"]
    for name in ("models.cpp", "models.h", "tables.h"):
        ours, theirs = ((folder / name).read_text().splitlines()[1:] for folder in (tmp_path, good.path))
        assert ours == theirs
    assert TablesSource.parse((good.path / "tables.cpp").read_text()).namespace == good.manifest["namespace"]


def test_a_host_needs_no_compiler(task, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert len(taught(HostRuntime(WRITTEN), task)) > 100


def taught(host, task):
    host.add_samples(*(array[:4] for array in task))
    host.train()
    return host.trainer.save_delta()


def test_a_model_with_a_weight_of_another_size_is_refused(good):
    model = MicroModel(good.trainable, 1 << 16)
    for tensor in (-1, 0, 10**6):
        with pytest.raises(ValueError, match="which is no such constant"):
            model.bind(tensor, np.zeros(3, np.int8))


def test_calls_of_several_threads_wait_for_each_other(task, tried):
    alone, host, stop = HostRuntime(WRITTEN), HostRuntime(WRITTEN), threading.Event()
    taught(alone, task)
    alone.train()
    taught(host, task)

    def look():
        while not stop.is_set():
            host.predict(task[0][:1])

    thread = threading.Thread(target=look)
    thread.start()
    try:
        host.train()
    finally:
        stop.set()
        thread.join()
    assert host.trainer.save_delta() == alone.trainer.save_delta()
    tried("training while another thread predicts", 1)


def test_a_call_from_within_a_call_is_refused(task):
    host = HostRuntime(WRITTEN)
    taught(host, task)
    for call in (host.train, lambda: host.predict(task[0][:1]), host.revert):
        with pytest.raises(RuntimeError, match="the trainer is in use"):
            host.train(lambda iteration, loss, call=call: call())
    assert len(host.train(lambda iteration, loss: len(host.trainer.save_delta()) > 0)) == 3


def test_a_plan_of_biases_alone_is_refused_by_name(good, tmp_path):
    model = small_net()
    with pytest.raises(ValueError, match="biases alone of project: plan"):
        export_tflm(
            model, Plan((LayerPlan("project", (1,), kernel=False),)), calibration=images(model, 8), out=tmp_path / "net"
        )
