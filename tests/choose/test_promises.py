"""Bytes promised by an export are the bytes that the running C++ reports: on the digits' net and the paper's three, three plans each."""

import numpy as np
import pytest
from models import images

from keras_tinytrain.backbones import MCUNet, MobileNetV2, NanoNet, ProxylessNASNet
from keras_tinytrain.choose import planner
from keras_tinytrain.choose.sram import DeviceAccounting
from keras_tinytrain.export import Board, TrainingSettings, conversion, export_tflm
from keras_tinytrain.plan import Budget
from keras_tinytrain.run import HostRuntime

WAYS = 5
NETS = {  # backbone, its arguments, file of weights, memory budgets
    "nano": (NanoNet, {}, None, ("110KB", "160KB", "240KB")),
    "mcunet": (MCUNet, {}, "mcunet-5fps", ("330KB", "420KB", "700KB")),
    "mobilenet_v2": (MobileNetV2, {"input_shape": (64, 64, 3)}, "mbv2-w0.35", ("130KB", "200KB", "500KB")),
    "proxylessnas": (ProxylessNASNet, {"input_shape": (64, 64, 3)}, "proxyless-w0.3", ("90KB", "160KB", "400KB")),
}
ROOMY = Board("roomy", "any", 1, 2**24, 2**24)


@pytest.mark.parametrize("name", NETS)
def test_promised_bytes_are_used_to_the_byte(name, shared_data, tmp_path, monkeypatch):
    build, options, file, budgets = NETS[name]
    model = build(**options, weights=shared_data / "weights" / f"{file}.npz") if file else build()
    x = images(model, WAYS)
    convert, converted = conversion.convert_int8, []

    def convert_once(*arguments):
        converted[:] = converted or [convert(*arguments)]
        return converted[0]

    monkeypatch.setattr(conversion, "convert_int8", convert_once)
    totals = []
    for memory in budgets:
        budget, accounting = Budget(memory, 1.0), DeviceAccounting(num_samples=WAYS, num_classes=WAYS)
        loss = planner.summed_cross_entropy(np.arange(WAYS))
        plan = planner.choose(model, x, loss, budget, strategy="l2", accounting=accounting)
        settings = TrainingSettings(num_classes=WAYS, max_samples=WAYS)
        bundle = export_tflm(
            model, plan, calibration=x, out=tmp_path / memory, board=ROOMY, training=settings, head="prototypes"
        )
        promised = bundle.promised_bytes
        assert HostRuntime(bundle).bytes_used() == promised
        assert promised["sram"]["total"] <= budget.memory_bytes  # what was chosen within a budget stays within it
        totals.append(promised["sram"]["total"])
    assert totals == sorted(totals) and totals[2] > 1.3 * totals[0]  # three plans that are clearly different
