"""`TinyTrainCallback`: score on the task's samples, choose layers and channels within a budget, train only those."""

import contextlib
import functools
import itertools

import keras
import numpy as np
import tensorflow as tf

from keras_tinytrain import cost, planner
from keras_tinytrain.delta import Delta, snapshot
from keras_tinytrain.layers import layer_table
from keras_tinytrain.plan import Budget, LayerPlan, Plan
from keras_tinytrain.sparse import channel_slices, move_slices, sparse_train_step
from keras_tinytrain.strategies import redraw


class TinyTrainCallback(keras.callbacks.Callback):
    """Makes `fit` train only the few channels that matter most for the task, within a memory and a compute budget.

    When the first batch arrives it scores layers and channels by Fisher information on `support`, chooses within `budget`,
    and from then on nothing else is computed or moved: every other weight stays bit-identical, BatchNorm runs in inference
    mode, the optimizer holds state for the chosen channels only. When training ends the model is the user's again.

    Args:
        budget: `Budget` of memory and compute.
        inspect: choose among the last `inspect` blocks, or among a list of layer names.
        kinds: "pointwise" or "all": which convolutions are candidates.
        strategy: how to choose, a key of `strategies.STRATEGIES`; "redrawn" chooses other channels every epoch.
        support: (x, y) to score on; None: the first batch.
        plan: a `Plan` to train as it is, instead of choosing one.
        accounting: what the memory budget counts; None: `DeviceAccounting()`.
        verbose: 0 silent, 1 one line about what is trained.

    Attributes:
        plan: the `Plan` that is trained, once the first batch has arrived; `plan.explain()` says why.
        delta: the `Delta` from the model before training to the model after it, once training has ended.

    Example:
        >>> callback = keras_tinytrain.TinyTrainCallback(keras_tinytrain.Budget(memory="256KB", compute=0.15))
        >>> model.fit(x, y, epochs=20, callbacks=[callback])
        >>> callback.delta.save("task.delta")
    """

    def __init__(
        self,
        budget: Budget | None = None,
        *,
        inspect=6,
        kinds: str = "pointwise",
        strategy: str = "fisher",
        support=None,
        plan: Plan | None = None,
        accounting=None,
        verbose: int = 1,
    ):
        super().__init__()
        self.budget = budget or Budget()
        self.inspect = inspect
        self.kinds = kinds
        self.strategy = strategy
        self.support = support
        self.verbose = verbose
        self.accounting = accounting
        self.plan = plan
        self.delta = None
        self._given_plan = plan
        self._slices = []
        self._before = None  # the delta that changes nothing: the base model's values
        self._undo = []  # what gives the model back to the user, last first

    def on_train_begin(self, logs=None):
        self._give_back()
        if self.model.optimizer is None:
            raise ValueError("TinyTrainCallback needs a model that was compiled with an optimizer.")
        self._replace(self.model, "train_function", self._first_call)

    def on_epoch_begin(self, epoch, logs=None):
        if self.strategy == "redrawn" and self._slices:
            self.plan = redraw(self.plan, layer_table(self.model), epoch=epoch)
            move_slices(self._slices, self.model, self.plan)
            for variable in self.model.optimizer.variables[2:]:  # behind iteration and learning rate: what belongs to a channel
                variable.assign(tf.zeros_like(variable))

    def on_train_end(self, logs=None):
        if self._before is not None:
            self.delta = Delta.between(self._before, self.model)
        self._give_back()

    def print_trainable_parameters(self) -> None:
        """Print how many weights are trained, and of how many."""
        table = layer_table(self.model)
        trained = cost.num_trained_weights(table, cost.num_channels(self.plan))
        total = sum(row.num_weights for row in table)
        print(f"trained weights: {trained:,} of {total:,} ({100 * trained / total:.2f} %)")

    def _first_call(self, iterator):
        """Stands in for the train function until it knows, from `support` or from the first batch, what to train."""
        with self._giving_back_on_error():
            first = []
            if self._given_plan is None and self.support is None:
                first = [next(iterator)]
            self._begin(self.support or (first and keras.utils.unpack_x_y_sample_weight(first[0])[:2]))
            train_function = self.model.make_train_function(force=True) or self.model.train_function
            self.model.train_function = functools.partial(self._later_call, train_function)
            if not first:
                return train_function(iterator)
            rest = itertools.islice(iterator, self.model.steps_per_execution - 1)
            return train_function(itertools.chain(first, rest))

    def _later_call(self, train_function, iterator):
        with self._giving_back_on_error():
            return train_function(iterator)

    @contextlib.contextmanager
    def _giving_back_on_error(self):
        """Keras does not tell callbacks that training broke off."""
        try:
            yield
        except (StopIteration, tf.errors.OutOfRangeError):  # the end of the data
            raise
        except BaseException:
            self._give_back()
            raise

    def _begin(self, support):
        """Choose the plan and put sparse training in the place of the model's own."""
        model = self.model
        self.plan = self._given_plan or self._choose(*support)
        if not self.plan.layers:
            raise ValueError(f"The plan (strategy '{self.plan.strategy}') trains nothing; leave TinyTrainCallback out.")
        self._slices = slices = channel_slices(model, self.plan)
        self._before = snapshot(model, _whole_layers(model, self.plan) if self.strategy == "redrawn" else self.plan)
        for layer in model._flatten_layers(include_self=False):
            if isinstance(layer, keras.layers.BatchNormalization):
                self._replace(layer, "trainable", False)
        self._replace(model, "optimizer", _optimizer_for(model.optimizer, slices))
        self._replace(model, "jit_compile", False)  # several times slower on depthwise convolutions
        model.train_step = functools.partial(sparse_train_step, model, slices)
        self._undo.append(lambda: delattr(model, "train_step"))
        if self.verbose:
            print(f"TinyTrain ({self.plan.strategy}): {_summary(self.plan)}")
            self.print_trainable_parameters()

    def _choose(self, x, y):
        x, y = np.asarray(x), np.asarray(y)

        def summed_loss(outputs, indices):
            mean = self.model.compute_loss(x=x[indices], y=tf.convert_to_tensor(y[indices]), y_pred=outputs, training=False)
            return mean * len(indices)

        options = {"inspect": self.inspect, "kinds": self.kinds, "strategy": self.strategy, "accounting": self.accounting}
        plan = planner.choose(self.model, x, summed_loss, self.budget, **options)
        self.model.reset_metrics()
        return plan

    def _replace(self, owner, attribute, value):
        """Set an attribute until `_give_back`."""
        before = getattr(owner, attribute)
        self._undo.append(lambda: setattr(owner, attribute, before))
        setattr(owner, attribute, value)

    def _give_back(self):
        """Make the model the user's own again."""
        while self._undo:
            self._undo.pop()()
        self._before, self._slices = None, []


def _optimizer_for(optimizer, slices):
    """A fresh optimizer of the same settings that knows the chosen channels only."""
    fresh = type(optimizer).from_config(optimizer.get_config())
    variables = [part.variable for part in slices]
    fresh.build(variables)

    def finalize_variable_values(_):  # Keras passes the model's trainable weights; exponential averages end here
        type(fresh).finalize_variable_values(fresh, variables)
        for part in slices:
            part.store()

    fresh.finalize_variable_values = finalize_variable_values
    return fresh


def _whole_layers(model, plan):
    """All channels of the layers of `plan`."""
    return Plan(tuple(LayerPlan(name, range(layer_table(model)[name].num_channels)) for name in cost.num_channels(plan)))


def _summary(plan):
    return ", ".join(f"{layer.name} ({len(layer.channels)} channels)" for layer in plan.layers)
