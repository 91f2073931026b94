"""Learn five classes from five samples each, take it back if it did not help, add a sixth class without training, save it all."""

import numpy as np

from keras_tinytrain import Budget, Delta, adapt
from keras_tinytrain.backbones import NanoNet
from keras_tinytrain.data import load_digits, sample_episode
from keras_tinytrain.fewshot import classifier_from_delta

backbone, digits = NanoNet(), load_digits()
task = sample_episode(digits, ways=6, shots=5, queries=40, rng=np.random.default_rng(1))
known = task.support_y < 5  # the sixth class comes later
held_out = (np.arange(len(task.query_y)) % 2 == 0) & (task.query_y < 5)

learned = adapt(
    backbone, task.support_x[known], task.support_y[known], budget=Budget("200KB", compute=0.15), augment="ink", num_views=4
)
result = learned.evaluate(task.query_x[held_out], task.query_y[held_out], revert=True)
print(f"five classes: accuracy {result:.3f}, before learning {result.before:.3f}, reverted: {result.reverted}")

learned.add_class(task.support_x[~known])
rest = np.arange(len(task.query_y)) % 2 == 1
print(f"six classes: accuracy {learned.evaluate(task.query_x[rest], task.query_y[rest]):.3f}")

learned.save_delta("digits.delta")
again = classifier_from_delta(backbone, Delta.load("digits.delta"))
print(f"loaded: accuracy {again.evaluate(task.query_x[rest], task.query_y[rest]):.3f}")
