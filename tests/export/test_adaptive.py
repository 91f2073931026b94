"""Bundles with candidates: what the device chooses is what Python chooses by the same scores and bytes."""

import dataclasses
import itertools
import json

import numpy as np
import pytest
from models import embedding_net, images, labelled_images, small_net

from keras_tinytrain.choose import planner, selection
from keras_tinytrain.choose.candidates import candidates
from keras_tinytrain.choose.fisher import fisher_information
from keras_tinytrain.choose.paper_cost import num_channels
from keras_tinytrain.choose.ranking import fisher_ranking
from keras_tinytrain.cli import main
from keras_tinytrain.delta import Delta
from keras_tinytrain.export import Candidates, TrainingSettings, board, conversion, export_tflm
from keras_tinytrain.export.adaptive import Room
from keras_tinytrain.export.backward.memory import training_memory
from keras_tinytrain.fewshot.adaptation import prototype_classifier
from keras_tinytrain.model.fold import fold_batch_norm
from keras_tinytrain.model.layers import layer_table
from keras_tinytrain.plan import Budget, LayerPlan, Plan
from keras_tinytrain.run import HostRuntime
from keras_tinytrain.run.edge import EdgeRuntime

WAYS, SHOTS = 3, 4
NANO = dataclasses.replace(board("nano33ble"), sram_bytes=49_152, reserved_sram_bytes=0)
SETTINGS = TrainingSettings(iterations=6, learning_rate=0.01, num_classes=WAYS, max_samples=WAYS * SHOTS)
CANDIDATES = Candidates(last_blocks=2, kinds="all", budget=Budget("48KB", 0.9))


class Case:
    def __init__(self, folder):
        self.model = embedding_net()
        self.x, self.y = labelled_images(self.model, per_class=SHOTS, classes=WAYS)
        graphs, read = [], conversion.read_trainable

        def read_and_keep(*args, **options):
            graphs.append(read(*args, **options)[1])
            return read(*args, **options)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(conversion, "read_trainable", read_and_keep)
            self.bundle = export_tflm(
                self.model,
                CANDIDATES,
                calibration=images(self.model, 8),
                out=folder,
                board=NANO,
                training=SETTINGS,
                head="prototypes",
            )
        (self.graph,) = graphs

    def host(self, **settings):
        host = HostRuntime(self.bundle, settings=settings)
        host.add_samples(self.x, self.y)
        return host


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return Case(tmp_path_factory.mktemp("adaptive") / "net")


class ByTheByte:
    """An accounting of what the runtime's arena takes; a choice whose gradients the scratch does not hold takes all there is."""

    def __init__(self, case):
        limits, sram = case.bundle.manifest["adaptive"], case.bundle.manifest["sram"]
        self.case, self.room = case, Room(sram["model_arena"], limits["scratch_bytes"], limits["arena_bytes"])

    def memory_bytes(self, table, choice):
        graph = self.case.graph
        taken = [candidate for candidate in graph.candidates if candidate.name in choice]
        trained = tuple(dataclasses.replace(layer, channels=layer.channels[: choice[layer.name]]) for layer in taken)
        chosen = dataclasses.replace(graph, trained=trained)
        memory = training_memory(chosen, SETTINGS, head="prototypes", image_bytes=144, num_views=0)
        return memory.state_bytes if memory.scratch_bytes <= self.room.scratch_bytes else 1 << 40


def test_the_choice_is_python_s_for_the_same_scores(case):
    table = layer_table(fold_batch_norm(case.model))
    host, accounting = case.host(), ByTheByte(case)
    rows = candidates(table, 2, kinds="all")
    scores = {row.name: found for row, found in zip(rows, host.trainer.score(), strict=True)}
    assert len(rows) == 6
    ranking = fisher_ranking(rows, scores)
    room, seen = accounting.room, set()
    least = min(accounting.memory_bytes(table, {row.name: 1}) for row in rows)
    for share, compute in itertools.product((0.01, 0.05, 0.2, 0.5, 1), (0.9, 0.4, 0.2)):
        budget = Budget(int(least + share * (room.arena_bytes - least)) // 16 * 16, compute)
        expected = selection.select(table, ranking, budget, accounting=accounting)
        others = room.model_arena + case.bundle.manifest["sram"]["variables"]
        chosen = host.select(Budget(budget.memory_bytes + others, compute))
        assert chosen.layers == expected.layers
        assert host.trainer.memory_parts()["state"] == accounting.memory_bytes(table, num_channels(chosen))
        seen.add(chosen.layers)
    assert len(seen) > 5


def test_scores_are_those_of_keras_but_for_rounding(case):
    loss = planner.summed_cross_entropy(case.y)
    classifier = fold_batch_norm(prototype_classifier(case.model, case.x, case.y).model)
    expected = fisher_information(classifier, case.x, loss, [c.name for c in case.graph.candidates])
    for found, name in zip(case.host().trainer.score(), expected, strict=True):
        assert np.corrcoef(found, expected[name])[0, 1] > 0.98
        assert found.sum() == pytest.approx(expected[name].sum(), rel=0.2)


def test_a_task_is_learned_and_moved_on(case, tmp_path):
    host = case.host()
    losses = host.train()
    assert losses[-1] < 0.5 * losses[0]
    assert host.plan.layers and host.plan.strategy == "fisher"
    promised, used = case.bundle.promised_bytes["sram"], host.bytes_used()["sram"]
    assert used["total"] <= promised["total"] == sum(promised.values()) - promised["total"] <= NANO.sram_bytes
    assert used["plan"] > 0
    host.save_delta(tmp_path / "task.delta")
    records = {layer.name: layer for layer in Delta.load(tmp_path / "task.delta").plan.layers}
    assert set(records) == {layer.name for layer in host.plan.layers} | {"prototypes", "original_prototypes"}
    assert all(records[layer.name] == layer for layer in host.plan.layers)
    host.save_to_flash()
    for runtime in (HostRuntime(case.bundle), EdgeRuntime(case.bundle)):
        runtime.load_delta(tmp_path / "task.delta")
        assert runtime.plan.layers == host.plan.layers
        np.testing.assert_array_equal(runtime.predict(case.x), host.predict(case.x))


def test_a_fixed_plan_of_the_same_channels_learns_the_same(case, tmp_path):
    host = case.host()
    losses = host.train()
    fixed = export_tflm(
        case.model,
        host.plan,
        calibration=images(case.model, 8),
        out=tmp_path / "net",
        board=NANO,
        training=SETTINGS,
        weights_in_ram="whole",
        head="prototypes",
    )
    other = HostRuntime(fixed)
    other.add_samples(case.x, case.y)
    assert other.train() == losses
    assert other.trainer.save_delta(0) == host.trainer.save_delta(0)


def test_softmax_heads_choose_too(tmp_path):
    model = small_net()
    x, y = labelled_images(model, per_class=4, classes=3)
    training = TrainingSettings(iterations=6, learning_rate=0.01, max_samples=12)
    candidates = Candidates(budget=Budget("64KB", 0.9))
    bundle = export_tflm(model, candidates, calibration=x, out=tmp_path / "net", head="softmax", training=training)
    host = HostRuntime(bundle)
    host.add_samples(x, y)
    losses = host.train()
    assert losses[-1] < losses[0] and host.plan.layers


def test_what_cannot_be_is_said(case, tmp_path):
    arguments = {"calibration": images(case.model, 8), "out": tmp_path / "net", "board": NANO, "training": SETTINGS}
    with pytest.raises(ValueError, match=r"no room to choose within 9,216 B of SRAM.*takes \d+,\d+ B.*Nothing was written"):
        export_tflm(case.model, Candidates(budget=Budget("9KB")), head="prototypes", **arguments)
    with pytest.raises(ValueError, match="criterion expects one of"):
        Candidates(criterion="P/Q")
    assert not (tmp_path / "net").exists()
    with pytest.raises(ValueError, match="the budget is too small to train one channel"):
        case.host().select(Budget("48KB", 2))
    with pytest.raises(ValueError, match="The models' arena and variables alone take"):
        case.host().select(Budget("1KB"))
    plan = Plan((LayerPlan("b2.pw2", (0,)),))
    fixed = HostRuntime(export_tflm(case.model, plan, head="prototypes", **arguments))
    assert fixed.plan == plan
    with pytest.raises(ValueError, match="exported with a plan"):
        fixed.select()


def test_the_command(case, tmp_path, capsys):
    case.model.save(tmp_path / "net.keras")
    np.savez(tmp_path / "task.npz", x=case.x, y=case.y)
    command = [
        "export",
        str(tmp_path / "net.keras"),
        "--calibration",
        str(tmp_path / "task.npz"),
        "--out",
        str(tmp_path / "net"),
    ]
    assert main([*command, "--adaptive", "--inspect", "2", "--memory", "60KB", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["sram"]["total"] <= 60 * 1024 and printed["sram"]["choice"] > 0
    with pytest.raises(SystemExit):
        main(command)
    assert "one of the arguments --plan --adaptive is required" in capsys.readouterr().err
