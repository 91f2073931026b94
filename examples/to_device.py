"""From five samples of each class to a firmware bundle, and the bundle's own C++ learning the same task on this machine."""

import numpy as np

from keras_tinytrain import Budget, adapt
from keras_tinytrain.backbones import NanoNet
from keras_tinytrain.choose import DeviceAccounting
from keras_tinytrain.data import load_digits, sample_episode
from keras_tinytrain.export import TrainingSettings, export_tflm
from keras_tinytrain.run import HostRuntime

backbone = NanoNet()
task = sample_episode(load_digits(), ways=5, shots=5, queries=20, rng=np.random.default_rng(1))

# Room for both heads, between which Keras and the device choose by their samples.
budget, accounting = Budget(memory="200KB", compute=0.15), DeviceAccounting(closed_form=True)
learned = adapt(backbone, task.support_x, task.support_y, budget=budget, accounting=accounting)
print(f"Keras: accuracy {learned.evaluate(task.query_x, task.query_y):.3f}, trained {learned.plan.num_channels} channels")

bundle = export_tflm(
    backbone,
    learned.plan,
    calibration=task.support_x,
    out="digits_bundle",
    board="nano33ble",
    training=TrainingSettings(num_classes=5, max_samples=25),
)
print(f"promised: {bundle.promised_bytes['sram']['total']:,} bytes of SRAM")

device = HostRuntime(bundle)
device.add_samples(task.support_x, task.support_y)
device.train()
answers = device.predict(task.query_x).argmax(axis=1)
print(f"device: accuracy {np.mean(answers == task.query_y):.3f}")
device.save_delta("digits.delta")
