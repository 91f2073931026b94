"""`benchmark accuracy`: the same tasks for every method and engine, nothing run twice, every method runs."""

import csv
import dataclasses
import os
import time

import numpy as np
import pytest

from keras_tinytrain.backbones.images import network_images
from keras_tinytrain.benchmark import engines
from keras_tinytrain.benchmark.jobs import Job, Settings, row_key
from keras_tinytrain.benchmark.methods import find_method, method_names
from keras_tinytrain.benchmark.networks import NETWORKS
from keras_tinytrain.benchmark.runner import Runner
from keras_tinytrain.benchmark.tasks import TaskShape, draw_task
from keras_tinytrain.cli import main
from keras_tinytrain.data import Domain
from keras_tinytrain.fewshot.classifier import FewShotClassifier

METHODS = ["none", "last_layer", "last_layer_loo_avg"]
SMALL = ["--ways", "3", "--shots", "2", "--queries", "2", "--iterations", "2"]


@pytest.fixture(scope="module")
def domain(tmp_path_factory):
    """Five kinds of small pictures, white shapes on black with noise, in a file."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(5), 8)
    patterns = rng.random((5, 8, 8, 1)) > 0.6
    images = 200 * patterns[labels] + rng.integers(0, 55, (len(labels), 8, 8, 1))
    path = tmp_path_factory.mktemp("domain") / "shapes.npz"
    np.savez(path, images=images.astype(np.uint8), labels=labels)
    return str(path)


def command(domain, out, *options):
    return ["benchmark", "accuracy", "--backbone", "nanonet", "--domains", domain, *SMALL, "--out", str(out), *options]


def without_seconds(path):
    with open(path, newline="", encoding="utf-8") as file:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def results(domain, tmp_path_factory):
    """A finished run of two tasks in this process."""
    path = tmp_path_factory.mktemp("results") / "local.csv"
    assert main(command(domain, path, "--episodes", "2", "--methods", *METHODS)) == 0
    return path


def test_rows_and_figure(results, domain, capsys, tmp_path):
    rows = without_seconds(results)
    assert [(row["episode"], row["method"]) for row in rows] == [(str(e), method) for e in range(2) for method in METHODS]
    assert rows[0]["trained_weights"] == rows[0]["backward_macs"] == "0"
    weights = 256 * 96  # b7.pw2
    assert rows[1]["trained_weights"] == str(weights) and int(rows[1]["memory_bytes"]) == 16 * weights + 4 * 24576
    assert int(rows[1]["device_bytes"]) > 16 * weights
    assert rows[1]["task"] == "3-way 2-shot 2 queries" and rows[1]["learning_rate"] == "0.003"
    figure = tmp_path / "gains.png"
    assert main(command(domain, results, "--episodes", "2", "--methods", *METHODS, "--figure", str(figure))) == 0
    assert without_seconds(results) == rows and figure.stat().st_size > 10_000
    assert "paired difference, points" in capsys.readouterr().out


def test_benchmark_that_was_cut_off_goes_on(results, domain, tmp_path):
    part = tmp_path / "part.csv"
    part.write_text("".join(results.read_text().splitlines(keepends=True)[:3]))  # the first two methods of the first task
    assert main(command(domain, part, "--episodes", "2", "--methods", *METHODS)) == 0
    assert without_seconds(part) == without_seconds(results)


def small_runner():
    """In the place of Runner, without TensorFlow: job 0 takes longest, and a domain is missing. Ray sends a class that a function
    made to its workers as a whole."""

    class Small:
        def __init__(self, settings):
            pass

        def run(self, job):
            if getattr(job, "domain", "") == "gone.npz":
                raise ValueError("There is no domain 'gone.npz'")
            time.sleep(0.5 * (job == 0))
            return [(job, os.getpid())]

    return Small


def test_ray_gives_the_same_rows_and_errors(results, domain, tmp_path, capsys, monkeypatch):
    ray = pytest.importorskip("ray", reason="pip install keras-tinytrain[ray]")
    monkeypatch.setenv("RAY_worker_niceness", "0")  # 15 would let the tests beside it take its processor
    out = tmp_path / "ray.csv"
    ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False)
    try:
        assert main(command(domain, out, "--episodes", "1", "--methods", *METHODS, "--engine", "ray")) == 0
        monkeypatch.setattr(engines, "Runner", small_runner())
        jobs, workers = zip(*(row for rows in engines.run_ray(None, range(4)) for row in rows))
        assert main(command("gone.npz", tmp_path / "none.csv", "--episodes", "1", "--methods", "none", "--engine", "ray")) == 2
    finally:
        ray.shutdown()
    assert without_seconds(out) == without_seconds(results)[: len(METHODS)]
    assert jobs == (0, 1, 2, 3) and len(set(workers)) == 2
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("keras-tinytrain: There is no domain 'gone.npz'")


@pytest.fixture(scope="module")
def runner(domain):
    return Runner(Settings("nanonet", "", (domain,), TaskShape("fixed", 3, 2, 2), iterations=2))


@pytest.mark.parametrize("name", ["transductive", "adapterdrop_75", "static", "bias_only", "tinytrain"])
def test_methods_of_each_kind(runner, domain, name):
    [row] = runner.run(Job(domain, 0, (name,)))
    assert 0 <= row["accuracy"] <= 1 and row["method"] == name
    assert (row["trained_weights"] == 0) == (name in ("none", "bias_only"))
    assert row == {**row, **row_key(runner.settings, domain, 0)}
    assert name not in ("static", "tinytrain") or row["memory_bytes"] <= NETWORKS["nanonet"].budget.memory_bytes


def test_a_row_tells_half_a_domain_from_the_whole():
    settings = Settings("nanonet", "", ("odd:a/signs.npz",))
    assert [row_key(settings, name, 0)["domain"] for name in ("a/signs.npz", "odd:a/signs.npz")] == [
        "signs",
        "signs (odd classes)",
    ]


def test_averaging_learns_once(runner, domain, monkeypatch):
    calls, timed = [], runner._timed
    monkeypatch.setattr(runner, "_timed", lambda method, task: calls.append(method.name) or timed(method, task))
    rows = runner.run(Job(domain, 1, ("last_layer", "last_layer_avg", "last_layer_loo_avg")))
    assert calls == ["last_layer", "last_layer_loo_avg"]
    assert rows[0]["seconds"] == rows[1]["seconds"]


@pytest.mark.parametrize("holds", [True, False])
def test_an_auto_method_answers_by_the_head_that_holds(runner, domain, monkeypatch, holds):
    monkeypatch.setattr(FewShotClassifier, "closed_form_holds", holds)
    names = ("last_layer_avg", "last_layer_auto_avg", "last_layer_ridge_avg")
    cosine, auto, ridge = (row["accuracy"] for row in runner.run(Job(domain, 1, names)))
    assert auto == (ridge if holds else cosine)


def test_static_plan_is_the_same_for_every_task(runner, domain):
    method, pictures = find_method("static", "nanonet"), runner.domains[domain]
    plans = [runner.learn(method, runner._task(pictures, number, 0)).learned.plan for number in (0, 1)]
    assert plans[0] == plans[1] == runner.static_plan and plans[0].strategy == "static"


@pytest.mark.parametrize("sampler", ["fixed", "imbalanced", "meta-dataset"])
def test_tasks_depend_on_seed_and_number_alone(sampler):
    rng = np.random.default_rng(0)
    pictures = Domain("d", rng.random((60, 8, 8, 3), np.float32), np.arange(60) % 6)
    shape = TaskShape(sampler, 5, 2, 3)
    first, again, other = (draw_task(pictures, shape, (16, 16, 3), seed=3, episode=number) for number in (1, 1, 2))
    np.testing.assert_array_equal(first.query_x, again.query_x)
    assert first.style == "photo" and first.support_x.shape[1:] == (16, 16, 3)
    assert first.support_x.shape != other.support_x.shape or np.abs(first.support_x - other.support_x).max() > 0


def test_imbalanced_classes_have_from_one_to_all_shots():
    pictures = Domain("d", np.zeros((60, 8, 8, 1), np.float32), np.arange(60) % 6)
    shape = TaskShape("imbalanced", 4, 7, 2)
    task = draw_task(pictures, shape, (8, 8, 1), seed=0, episode=0)
    assert np.bincount(task.support_y).tolist() == [1, 3, 5, 7] and len(task.support_x) == 16
    assert np.bincount(task.query_y).tolist() == [2] * 4 and str(shape) == "4-way 1 to 7-shot 2 queries"


def test_images_are_as_the_network_wants_them():
    ink = np.zeros((1, 4, 4, 1), np.float32)
    ink[0, 1, 1] = 1
    assert network_images(ink, (4, 4, 1))[0, 1, 1].tolist() == [1]
    drawn = network_images(ink, (4, 4, 3))[0]
    np.testing.assert_allclose(drawn[1, 1], -128 / 127.5, rtol=1e-6)  # black ink
    np.testing.assert_allclose(drawn[0, 0], 127 / 127.5, rtol=1e-6)  # on white
    grey = np.full((1, 4, 4, 3), 0.5, np.float32)
    np.testing.assert_allclose(network_images(grey, (2, 2, 1)), np.full((1, 2, 2, 1), 0.5), rtol=1e-6)


def test_methods_by_name():
    both = find_method("tinytrain_loo_avg", "mcunet")
    assert both.average == 0.5 and both.leave_one_out and not find_method("tinytrain", "mcunet").leave_one_out
    assert find_method("sparse_update", "mcunet").strategy == find_method("sparse_update_99kb", "mcunet").strategy
    assert find_method("full_avg", "mcunet", {"full": 1.0}).learning_rate == 1.0
    assert find_method("full_avg", "mcunet", {"full": 1.0, "full_avg": 2.0}).learning_rate == 2.0
    assert all(network.scheme in "".join(method_names(name)) for name, network in NETWORKS.items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--methods", "none", "magic"], "Known methods: none, ridge, last_layer"),
        (["--methods", "none_avg"], "Received: none_avg"),
        (["--methods", "transductive_loo"], "except none, ridge, transductive. Received: transductive_loo"),
        (["--backbone", "resnet"], "backbones: mcunet"),
        (["--learning-rate", "full=fast"], "expects METHOD=RATE, such as tinytrain=1e-3. Received: 'full=fast'"),
        (["--learning-rate", "ful=1"], "Received: ful"),
        (["--memory", "1MB"], "--memory and --compute are given together"),
    ],
)
def test_unknown_names_are_listed(domain, tmp_path, capsys, change, message):
    assert main(command(domain, tmp_path / "x.csv", *change)) == 2
    assert message in capsys.readouterr().err


def test_a_domain_that_is_missing_is_named_before_weights_are_read(tmp_path, capsys):
    assert main(command("gone.npz", tmp_path / "x.csv", "--weights", str(tmp_path / "gone_too.npz"))) == 2
    assert "no domain 'gone.npz': expected an .npz file, a folder" in capsys.readouterr().err


def test_a_gated_method_trains_only_where_the_closed_form_head_needs_it(domain):
    runner = Runner(Settings("nanonet", "", (domain,), TaskShape("fixed", 2, 4, 2), iterations=1))
    task = draw_task(runner.domains[domain], runner.settings.shape, runner.backbone.input_shape[1:], seed=0, episode=0)
    easy = runner.learn(runner.settings.method("tinytrain_gated"), task)
    assert easy.learned.plan is None and easy.learned.leave_one_out == 1 and easy.costs["trained_weights"] == 0
    hard = runner.learn(
        runner.settings.method("tinytrain_gated"), dataclasses.replace(task, support_y=np.roll(task.support_y, 1))
    )
    assert hard.learned.plan is not None and hard.costs["trained_weights"] > 0
