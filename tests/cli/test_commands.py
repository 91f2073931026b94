"""The command line as a user types it: what it writes, what it says of wrong input, and that it then writes nothing."""

import json
import re
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_tinytrain import Plan, __version__
from keras_tinytrain.backbones.images import network_images
from keras_tinytrain.cli import main
from keras_tinytrain.cli.options import own_object
from keras_tinytrain.cli.samples import remark_on_range
from keras_tinytrain.data import load_npz, load_samples
from keras_tinytrain.export import Bundle

PARTS = ("frozen", "trainable")


def test_version_and_help_are_quick(tmp_path):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "keras_tinytrain", "--version"],
        capture_output=True,
        text=True,
        cwd=tmp_path,  # in the checkout Python would find its folder, and not the package that is installed
    )
    assert done.returncode == 0 and done.stdout == f"keras-tinytrain {__version__}\n"
    assert "tensorflow" not in done.stderr


@pytest.mark.parametrize(
    "command", ["demo", "profile", "plan", "export", "check", "emulate", "page", "device", "benchmark", "metatrain"]
)
def test_every_command_has_help_with_an_example(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert f"keras-tinytrain {command}" in capsys.readouterr().out.split("example:")[1]


COMMANDS = [
    *(
        [command]
        for command in ("demo", "profile", "plan", "export", "check", "emulate", "page", "device", "benchmark", "metatrain")
    ),
    *(["benchmark", name] for name in ("cost", "accuracy", "device", "emulated", "timing", "step")),
]


def test_help_of_every_command_loads_no_tensorflow(tmp_path):
    code = (
        "import sys, contextlib, io; from keras_tinytrain.cli import main\n"
        f"for command in {COMMANDS!r}:\n"
        "    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()): main([*command, '--help'])\n"
        "print(sorted(sys.modules.keys() & {'tensorflow', 'keras'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout == "[]\n", done.stderr


def test_devices_of_the_demo_load_no_tensorflow(tmp_path):
    code = "import sys, keras_tinytrain.cli.demo_run; print(sorted(sys.modules.keys() & {'tensorflow', 'keras', 'sklearn'}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize("model", ["model.keras", "backbone.keras"])
def test_plan_then_export(folder, tmp_path, model, capsys):
    plan, bundle = tmp_path / "plan.json", tmp_path / "bundle"
    choose = ["plan", str(folder / model), "--samples", str(folder / "task.npz"), "--memory", "100KB", "--compute", "0.4"]
    assert main([*choose, "--out", str(plan), "--json", "--features", "flash"]) == 0
    assert json.loads(capsys.readouterr().out)["layers"] and Plan.load(plan).num_channels
    write = [
        "export",
        str(folder / model),
        "--plan",
        str(plan),
        "--calibration",
        str(folder / "task.npz"),
        "--out",
        str(bundle),
    ]
    assert main([*write, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sram"]["total"] > 0
    assert (bundle / "trainable.tflite").is_file() and (bundle / "sketch" / "sketch.ino").is_file()
    assert main(write) == 2
    assert "is there already" in capsys.readouterr().err
    assert main([*write, "--overwrite", "--features", "flash", "--for", "esp-idf", "--report", str(tmp_path / "r.html")]) == 0
    assert "model_arena" in capsys.readouterr().out
    assert Bundle.load(bundle).manifest["project"] == "esp-idf"
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["memory"]["SRAM"]["total_bytes"] == Bundle.load(bundle).promised_bytes["sram"]["total"]
    assert report["commands"]["made by"][0].startswith(f"keras-tinytrain export {folder}") and (tmp_path / "r.html").is_file()
    assert main([*write, "--overwrite", "--for", "zephyr", "--sketch", "camera"]) == 2
    assert "--sketch camera is written for Arduino's libraries, so --for expects" in capsys.readouterr().err
    assert Bundle.load(bundle).promised_bytes["flash"]["features"] > 0
    assert main(["check", str(bundle)]) == 0
    assert re.search(r"as exported. It takes \d+ of 256 KB of SRAM and \d+ of 960 KB of flash", capsys.readouterr().out)
    assert main(["page", str(bundle), "--out", str(bundle / "teach.html")]) == 2
    assert "a place outside the bundle" in capsys.readouterr().err and Bundle.load(bundle)
    (bundle / "tables.cpp").write_text("altered")
    assert main(["check", str(bundle)]) == 2 and "tables.cpp was altered" in capsys.readouterr().err


def test_other_classes_are_learned_without_the_head(folder, tmp_path, capsys):
    logits = keras.models.load_model(folder / "model.keras")
    keras.Model(logits.input, keras.layers.Softmax()(logits.output)).save(tmp_path / "classifier.keras")
    keras.Model(logits.input, logits.get_layer("dropout").output).save(tmp_path / "backbone.keras")
    with np.load(folder / "task.npz") as task:
        few = task["y"] < 3
        np.savez(tmp_path / "few.npz", x=task["x"][few], y=task["y"][few])
    choose = ["--samples", str(tmp_path / "few.npz"), "--compute", "0.4", "--out", str(tmp_path / "plan.json")]
    assert main(["plan", str(tmp_path / "classifier.keras"), *choose]) == 2
    assert capsys.readouterr().err.endswith("pass the backbone in front of the head: --without-head.\n")
    written = []
    models = [str(tmp_path / "classifier.keras"), "--without-head"], [str(tmp_path / "backbone.keras")]
    for number, arguments in enumerate(models):
        out = tmp_path / f"bundle{number}"
        assert main(["plan", *arguments, *choose]) == 0
        write = ["--plan", str(tmp_path / "plan.json"), "--calibration", str(tmp_path / "few.npz"), "--out", str(out)]
        assert main(["export", *arguments, *write]) == 0
        written.append([(tmp_path / "plan.json").read_bytes(), *((out / f"{part}.tflite").read_bytes() for part in PARTS)])
    assert written[0] == written[1]
    capsys.readouterr()
    assert main(["export", models[0][0], *write[:-1], str(tmp_path / "third")]) == 2
    assert "of a classifier of other classes, pass its backbone, on the command line --without-head." in capsys.readouterr().err


def test_views_are_counted_and_exported(folder, tmp_path, capsys):
    views = ["--view", "-1", "2", "--view", "0", "0", "1"]
    command = ["plan", str(folder / "model.keras"), "--samples", str(folder / "task.npz"), "--compute", "0.4"]
    smallest = []
    for options in ([], views):
        assert main([*command, "--memory", "1KB", "--board", "none", *options]) == 2
        smallest.append(int(re.search(r"smallest that would do is --memory ([0-9]+)B", capsys.readouterr().err)[1]))
    assert smallest[1] > smallest[0]
    assert main([*command, *views, "--out", str(tmp_path / "plan.json")]) == 0
    write = ["export", str(folder / "model.keras"), "--plan", str(tmp_path / "plan.json"), "--out", str(tmp_path / "bundle")]
    training = ["--iterations", "7", "--learning-rate", "1e-4"]
    assert main([*write, "--calibration", str(folder / "task.npz"), *views, *training]) == 0
    manifest = Bundle.load(tmp_path / "bundle").manifest
    assert manifest["views"] == [[-1, 2, False], [0, 0, True]]
    assert manifest["training"]["iterations"] == 7 and manifest["training"]["learning_rate"] == pytest.approx(1e-4)


def test_plan_shows_what_was_chosen_and_why(folder, capsys):
    assert main(["plan", str(folder / "model.keras"), "--samples", str(folder / "task.npz"), "--compute", "0.5"]) == 0
    shown = capsys.readouterr().out
    assert "b2_project" in shown and "backward MACs" in shown and "Its export takes" in shown
    assert "bytes" not in shown.splitlines()[0]  # two sizes of one plan would be one too many


@pytest.mark.parametrize(
    ("options", "memory"),
    [([], 262_144 - 45_056), (["--board", "rp2040"], 270_336), (["--board", "rp2040", "--memory", "100KB"], 102_400)],
)
def test_a_plan_is_for_a_board(folder, capsys, options, memory):
    command = ["plan", str(folder / "model.keras"), "--samples", str(folder / "task.npz"), "--compute", "0.4", "--json"]
    assert main([*command, *options]) == 0
    assert Plan.from_json(capsys.readouterr().out).budget.memory_bytes == memory


def test_inspect_is_an_old_name_of_last_blocks(folder, capsys):
    command = ["plan", str(folder / "model.keras"), "--samples", str(folder / "task.npz"), "--compute", "0.4", "--json"]
    command += ["--board", "none"]
    assert main([*command, "--last-blocks", "1"]) == 0
    new = capsys.readouterr()
    assert main([*command, "--inspect", "1"]) == 0
    old = capsys.readouterr()
    assert old.out == new.out and "--inspect is called --last-blocks now" in old.err and new.err == ""
    with pytest.raises(SystemExit):
        main(["plan", "--help"])
    assert "--inspect" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "layers", "line"),
    [
        ([], None, "candidates: 6 of 9 layers; 2 depthwise, 1 not 1x1"),
        (["--kinds", "all"], None, "candidates: 9 of 9 layers"),
        (
            ["--kinds", "pointwise", "--last-blocks", "2"],
            None,
            "candidates: 3 of 9 layers; 4 before the last 2 blocks, 1 depthwise",
        ),
        (["--layers", "b3_conv", "b2_project"], {"b3_conv", "b2_project"}, "candidates: 2 of 9 layers; 7 not named"),
    ],
)
def test_candidates_are_chosen_by_kind_and_by_name(folder, capsys, options, layers, line):
    command = [
        "plan",
        str(folder / "model.keras"),
        "--samples",
        str(folder / "task.npz"),
        "--compute",
        "0.5",
        "--board",
        "none",
    ]
    assert main([*command, *options]) == 0
    assert line in capsys.readouterr().out
    assert main([*command, *options, "--json"]) == 0
    plan = Plan.from_json(capsys.readouterr().out)
    assert layers is None or {layer.name for layer in plan.layers} == layers


@pytest.mark.parametrize("option", ["--last-blocks", "--inspect"])
def test_name_of_a_layer_for_a_number_of_blocks_says_what_to_use(folder, capsys, option):
    with pytest.raises(SystemExit) as stop:
        main(["plan", str(folder / "model.keras"), "--samples", str(folder / "task.npz"), option, "conv2d_3"])
    assert stop.value.code == 2
    assert "received conv2d_3. To choose among named layers, use --layers conv2d_3" in capsys.readouterr().err


def test_figure_without_matplotlib_says_what_to_install(folder, capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    command = ["plan", str(folder / "model.keras"), "--samples", str(folder / "task.npz"), "--figure", str(tmp_path / "a.png")]
    assert main(command) == 2
    assert 'needs matplotlib. Install it with: pip install "keras-tinytrain[bench]"' in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def pixels_of(folder, tmp_path):
    """task.npz with its values stored as pixels."""
    with np.load(folder / "task.npz") as task:
        x, low, high = task["x"], task["x"].min(), task["x"].max()
        np.savez(tmp_path / "pixels.npz", x=np.round(255 * (x - low) / (high - low)).astype(np.uint8), y=task["y"])
    return str(tmp_path / "pixels.npz")


@pytest.mark.parametrize("options", [[], ["--scale", "1"]], ids=["no scale", "scale 1"])
def test_pixels_without_a_scale_are_remarked_on(folder, tmp_path, capsys, options):
    command = ["plan", str(folder / "model.keras"), "--samples", pixels_of(folder, tmp_path), "--compute", "0.4"]
    assert main([*command, *options]) == 0
    remark = "read as 0..1. For a model that takes 0..255 add --scale 255."
    assert (remark in capsys.readouterr().err) == (not options)


def test_pixels_of_0_to_1_are_refused_by_a_model_with_rescaling(folder, tmp_path, capsys):
    model = keras.models.load_model(folder / "model.keras")
    inputs = keras.Input(model.input_shape[1:])
    keras.Model(inputs, model(keras.layers.Rescaling(1 / 255)(inputs))).save(tmp_path / "rescaled.keras")
    command = ["plan", str(tmp_path / "rescaled.keras"), "--samples", pixels_of(folder, tmp_path), "--compute", "0.4", "--json"]
    assert main(command) == 2
    assert "takes values up to 255" in (said := capsys.readouterr().err) and "add --scale 255" in said
    assert main([*command, "--scale", "255"]) == 0 and json.loads(capsys.readouterr().out)["layers"]


def test_a_class_of_the_users_own_is_found_beside_the_command(folder, tmp_path, monkeypatch, capsys):
    code = "import keras\nclass Twice(keras.layers.Layer):\n    def call(self, x):\n        return 2 * x\n"
    (tmp_path / "own_layers_of_a_user.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    model = keras.models.load_model(folder / "model.keras")
    twice = own_object("own_layers_of_a_user:Twice")[1]
    inputs = keras.Input(model.input_shape[1:])
    keras.Model(inputs, model(twice()(inputs))).save("own.keras")
    command = ["plan", "own.keras", "--samples", str(folder / "task.npz"), "--compute", "0.4", "--json"]
    assert main(command) == 2
    assert "--custom module:Name" in capsys.readouterr().err
    assert main([*command, "--custom", "own_layers_of_a_user:Twice"]) == 0
    assert main([*command, "--custom", "own_layers_of_a_user:Thrice"]) == 2
    assert "--custom expects module:Name" in capsys.readouterr().err


def test_values_far_from_the_exported_range_are_remarked_on(capsys):
    exported = {"scale": 1.0, "zero_point": -128}  # pixels 0..255
    for largest, said in ((1.0, True), (255.0, False), (2000.0, True)):
        remark_on_range(np.full((1, 2, 2, 1), largest), exported, "task.npz")
        assert ("the exported model takes up to 255. Is --scale right?" in capsys.readouterr().err) == said


def test_scale_2_prepares_pixels_as_the_imagenet_backbones_take_them(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3)).astype(np.uint8)
    np.savez(tmp_path / "signs.npz", images=images, labels=np.arange(4) % 2)
    x, _ = load_samples(tmp_path / "signs.npz", (8, 8, 3), scale=2, offset=-128 / 127.5)
    expected = network_images(load_npz(tmp_path / "signs.npz", size=None).images, (8, 8, 3))
    np.testing.assert_allclose(x, expected, atol=1e-6)


def test_chance_has_a_seed(folder, capsys):
    command = [
        "plan",
        str(folder / "model.keras"),
        "--samples",
        str(folder / "task.npz"),
        "--board",
        "none",
        "--memory",
        "60KB",
        "--compute",
        "0.3",
    ]
    printed = []
    for seed in ("1", "2", "1"):
        assert main([*command, "--strategy", "random", "--json", "--seed", seed]) == 0
        printed.append(Plan.from_json(capsys.readouterr().out).layers)
    assert printed[0] == printed[2] != printed[1]


def test_plan_explains_and_draws(folder, tmp_path, capsys):
    command = ["plan", str(folder / "model.keras"), "--samples", str(folder / "task.npz"), "--compute", "0.5", "--explain"]
    assert main([*command, "--figure", str(tmp_path / "plan.png")]) == 0
    shown = capsys.readouterr().out
    assert "+25% memory" in shown and "+100% memory" in shown
    assert (tmp_path / "plan.png").read_bytes().startswith(b"\x89PNG")


def test_benchmark_cost_prints_the_papers_figures(capsys):
    assert main(["benchmark", "cost", "--json"]) == 0
    rows = {(row["backbone"], row["method"]): row for row in json.loads(capsys.readouterr().out)}
    assert round(rows["MCUNet", "FullTrain"]["backward_macs"] / 1e6, 1) == 44.9
    assert set(rows["MCUNet", "FullTrain"]) == {
        "backbone",
        "method",
        "memory_mib",
        "backward_macs",
        "paper_memory_mb",
        "paper_macs",
    }
