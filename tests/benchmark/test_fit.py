"""`benchmark fit` on a small network: tracks stay on one side, nothing runs twice, rates are chosen on other domains."""

import keras
import numpy as np
import pytest
from models import embedding_net, images

from keras_tinytrain.benchmark import fit
from keras_tinytrain.benchmark.batch_norms import with_batch_norm
from keras_tinytrain.benchmark.fit_methods import METHODS
from keras_tinytrain.benchmark.fit_runner import Fit, run_fit
from keras_tinytrain.benchmark.fit_split import TEST_SHARE, train_and_test
from keras_tinytrain.cli import main
from keras_tinytrain.data import Domain


@pytest.fixture(scope="module")
def domain(tmp_path_factory):
    """Three kinds of small pictures, eight of each, in tracks of two."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 8)
    patterns = rng.random((3, 8, 8, 1)) > 0.6
    pictures = 200 * patterns[labels] + rng.integers(0, 55, (len(labels), 8, 8, 1))
    path = tmp_path_factory.mktemp("domain") / "shapes.npz"
    np.savez(path, images=pictures.astype(np.uint8), labels=labels, group=np.arange(24) // 2)
    return str(path)


def command(domain, out, *options):
    return ["benchmark", "fit", "--backbone", "nanonet", "--domains", domain, "--epochs", "1", "--out", str(out), *options]


@pytest.mark.parametrize("method", ["head", "tinytrain_1mb", "full"])
def test_method_trains_what_its_name_says(domain, method):
    row = run_fit(Fit("nanonet", "", domain, 0, method, 1e-3, 1, 8), count_memory=False)
    head, everything = 3 * 96, 114_568 + 3 * 96
    assert 0 <= row["accuracy"] <= 1 and row["seconds"] > 0
    least, most = {"head": (head, head), "tinytrain_1mb": (head + 1, everything - 1), "full": (everything, everything)}[method]
    assert least <= row["trained_weights"] <= most


def test_results_are_not_run_again(domain, tmp_path, monkeypatch, capsys):
    ran = []

    def pretended(job):
        ran.append((job.seed, job.method))
        return {"accuracy": 0.5 + 0.1 * (job.method == "full"), "trained_weights": 7, "seconds": 2.0, "peak_bytes": 2**20}

    monkeypatch.setattr(fit, "run_elsewhere", pretended)
    out, figure = tmp_path / "fit.csv", tmp_path / "fit.svg"
    methods = ["--methods", "head", "full"]
    assert main(command(domain, out, *methods, "--seeds", "0", "1")) == 0
    assert main(command(domain, out, *methods, "--seeds", "0", "1", "2", "--figure", str(figure))) == 0
    assert ran == [(seed, method) for seed in range(3) for method in ("head", "full")]
    printed = capsys.readouterr().out
    assert "10.00 +- 0.00" in printed and figure.stat().st_size > 5_000


def test_refused_budget_is_told_and_the_other_trainings_run(domain, tmp_path, monkeypatch, capsys):
    def pretended(job):
        if job.method == "tinytrain_256kb":
            raise OSError("The budget is too small to train all of 'classes'.")
        return {"accuracy": 0.5, "trained_weights": 7, "seconds": 2.0, "peak_bytes": 2**20}

    monkeypatch.setattr(fit, "run_elsewhere", pretended)
    methods = ["--methods", "tinytrain_256kb", "head", "full", "--jobs", "2"]
    assert main(command(domain, tmp_path / "fit.csv", *methods)) == 1
    printed = capsys.readouterr().out
    assert printed.count("not run: The budget is too small") == 1
    assert len((tmp_path / "fit.csv").read_text().splitlines()) == 1 + 2 * 3


def test_cost_is_compared_on_tasks_that_all_methods_ran():
    rows = [
        {"domain": domain, "task": "t", "seed": "0", "episode": "0", "method": method, "accuracy": "0.5"}
        | {"trained_weights": "7", "seconds": seconds, "peak_bytes": "1048576"}
        for method, domain, seconds in [("head", "small", "1"), ("full", "small", "2"), ("full", "large", "90")]
    ]
    assert fit.report(rows, ["head", "full"]).splitlines()[-1].split()[-3:] == ["2.0", "s", "1"]


def test_rate_of_a_domain_is_chosen_on_the_others():
    rows = [
        {"domain": domain, "method": "full", "learning_rate": rate, "accuracy": accuracy}
        for domain, accuracies in {"a": (0.9, 0.1), "b": (0.6, 0.7), "c": (0.5, 0.6)}.items()
        for rate, accuracy in zip(("0.001", "0.01"), accuracies)
    ]
    last = fit.rate_table(rows, ["full"]).splitlines()[-1]
    assert last.split()[-4:] == ["0.01", "0.001", "0.001", "0.001"]


def test_fit_is_measured_in_a_process_of_its_own(domain):
    row = fit.run_elsewhere(Fit("nanonet", "", domain, 0, "head", 1e-3, 1, 8))
    assert row["peak_bytes"] > 4 * 114_568


def test_groups_stay_on_one_side_and_every_class_is_tested():
    rng = np.random.default_rng(0)
    labels, groups = np.repeat(np.arange(5), 20), np.repeat(np.arange(25), 4)
    domain = Domain("d", np.zeros((100, 2, 2, 1)), labels, rng.permutation(25)[groups])
    train, test = train_and_test(domain, seed=3)
    assert sorted([*train, *test]) == list(range(100))
    assert not set(domain.groups[train]) & set(domain.groups[test])
    assert all(TEST_SHARE <= np.sum(labels[test] == label) / 20 <= 0.5 for label in range(5))
    assert not np.array_equal(test, train_and_test(domain, seed=4)[1])


def test_every_method_has_its_rate_among_those_compared():
    assert all(method.learning_rate in method.rates for method in METHODS.values())


def test_batch_norm_given_back_changes_nothing_in_inference():
    network = embedding_net()
    x = images(network, 6)
    normalised = with_batch_norm(network, x)
    np.testing.assert_allclose(normalised(x), network(x), rtol=1e-4, atol=1e-5)
    norms = [layer for layer in normalised.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert len(norms) == 7
