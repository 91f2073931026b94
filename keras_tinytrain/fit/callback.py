"""`TinyTrainCallback`: score on the task's samples, choose layers and channels within a budget, train only those."""

import contextlib
import dataclasses
import functools
import itertools
import math
from collections.abc import Sequence

import keras
import numpy as np

from keras_tinytrain._old_names import last_blocks_or_layers, old_keywords
from keras_tinytrain.choose import paper_cost, planner
from keras_tinytrain.choose.paper_cost import PaperAccounting
from keras_tinytrain.choose.protocols import Accounting
from keras_tinytrain.choose.sram import DeviceAccounting
from keras_tinytrain.choose.strategies import redraw
from keras_tinytrain.delta import Delta, snapshot
from keras_tinytrain.fit import _resume
from keras_tinytrain.fit._borrowed_optimizer import BorrowedOptimizer
from keras_tinytrain.fit._checks import check_fit, check_plan, frozen_layers
from keras_tinytrain.fit._compiled_loss import compiled_loss
from keras_tinytrain.fit._constraints import whole_only
from keras_tinytrain.fit._head import head_of
from keras_tinytrain.fit._inference_mode import self_changing_layers
from keras_tinytrain.fit._loan import Loan
from keras_tinytrain.fit._new_head import class_mean_weights, given_weights
from keras_tinytrain.fit._other_callbacks import other_callbacks
from keras_tinytrain.fit._tensorboard import write_plan
from keras_tinytrain.fit._train_function import keras3_train_function, steps_per_execution, train_function
from keras_tinytrain.fit.frozen_cache import FrozenCache, split_for_cache
from keras_tinytrain.fit.sparse import ChannelSlice, channel_optimizer, channel_slices, move_slices, sparse_train_step
from keras_tinytrain.model.fold import canonical_form
from keras_tinytrain.model.graph import find_layer
from keras_tinytrain.model.keras_package import build_sequential, copy_weights, is_keras2, keras_package, twin
from keras_tinytrain.model.layers import layer_table
from keras_tinytrain.model.private_keras import NoBatchHooks
from keras_tinytrain.plan import Budget, LayerPlan, Plan, parse_bytes

_ACCOUNTINGS: dict[str, type[DeviceAccounting] | type[PaperAccounting]] = {
    kind.__name__: kind for kind in (DeviceAccounting, PaperAccounting)
}


class TinyTrainCallback(NoBatchHooks, keras.callbacks.Callback):
    """Makes `fit` train only the few channels that matter most for the task, within a memory and a compute budget.

    When the first batch arrives, it scores layers and channels by Fisher information on `support` and chooses within `budget`.
    From then on `fit` updates the chosen channels and nothing else: every other weight stays bit-identical, and optimizer state
    exists for the chosen channels only. Layers that would change their own state, such as BatchNorm, run in inference mode; one
    that changes it in that mode too is refused. Constraints hold in the chosen channels. The backward pass stops at the earliest
    trained layer; of a trained layer TensorFlow computes the whole filter gradient, from which the chosen channels are picked.
    The model keeps its own optimizer, and however training ends, its train function. Layers with `trainable = False` are never
    chosen.

    A classifier's last layer (its head) is trained whole and paid first; the channels of the network share the rest. Scores are
    not taken through a head that knows nothing: a new head starts at the class means of the scored samples, instead of at its
    random weights. A head that predicts these samples already keeps its weights.

    It works with Keras 3 and tf_keras, and with other callbacks in any order. TensorBoard shows the plan and its scores. A
    training that BackupAndRestore resumes keeps its plan.

    Args:
        budget: `Budget` of memory and compute; None: `Budget()`, a compute limit without a memory limit.
        last_blocks: choose among the layers of so many blocks at the end of the model.
        layers: names; choose among these layers instead.
        kinds: "auto", "pointwise" or "all": which kinds of layers are candidates, see `choose.candidates.candidates`.
        strategy: how to choose, a key of `strategies.STRATEGIES`; "redrawn" chooses other channels every epoch.
        head: name of the layer that every chosen plan trains whole; "auto" finds it, see `model.head.classifier_head`, where
            targets are not of the samples' shape, as an autoencoder's are; None: no layer is, and the head is a candidate like
            the others.
        support: (x, y) to score on; None: the first batch.
        plan: a `Plan` to train, instead of choosing one.
        accounting: the bytes that the memory budget counts; None: `DeviceAccounting(features="flash")`, since the samples of a
            `fit` are not kept in RAM.
        seed: for the strategies "random" and "redrawn".
        cache_frozen: run the frozen part of the model once per distinct sample and keep its output; True for up to 1024 MB of
            it, or a limit such as "64MB". It helps where samples (or augmented views) repeat; see `FrozenCache`.
        verbose: 0 silent, 1 prints the trained layers, how many layers are candidates, and the number of trained weights.

    Attributes:
        plan: the `Plan` that is trained, once the first batch has arrived; `plan.explain()` says why.
        delta: the `Delta` from the model before training to the model after it, once training has ended. Of a tf_keras
            model it is the delta of its twin (see `keras_package.twin`).
        cache: the `FrozenCache`, once the first batch has arrived; None without `cache_frozen`.

    Example:
        >>> callback = keras_tinytrain.TinyTrainCallback(keras_tinytrain.Budget(memory="256KB", compute=0.15))
        >>> model.fit(x, y, epochs=20, callbacks=[callback])
        >>> callback.delta.save("task.delta")
    """

    @old_keywords(inspect=last_blocks_or_layers, cache_prefix="cache_frozen")
    def __init__(
        self,
        budget: Budget | None = None,
        *,
        last_blocks: int = 6,
        layers: Sequence[str] | None = None,
        kinds: str = "auto",
        strategy: str = "fisher",
        head: str | None = "auto",
        support: tuple | None = None,
        plan: Plan | None = None,
        accounting: Accounting | None = None,
        seed: int = 0,
        cache_frozen: bool | int | str = False,
        verbose: int = 1,
    ):
        super().__init__()
        self.budget = budget or Budget()
        self.last_blocks = last_blocks
        self.layers = layers if layers is None or isinstance(layers, str) else tuple(layers)
        self.kinds = kinds
        self.strategy = strategy
        self.head = head
        self.support = support
        self.accounting = accounting
        self.seed = seed
        self.cache_frozen = cache_frozen
        self.verbose = verbose
        self.plan = plan
        self.delta: Delta | None = None
        self.cache: FrozenCache | None = None
        self._cache_bytes = (
            parse_bytes("1024MB" if cache_frozen is True else cache_frozen, "cache_frozen") if cache_frozen else 0
        )
        self._given_plan = plan
        self._described: keras.Model | None = None  # the model that layers are read from: `model`, or its Keras 3 twin
        self._other_callbacks: list = []  # of this fit
        self._epoch = 0
        self._slices: list[ChannelSlice] = []
        self._before: Delta | None = None  # the delta that changes nothing: the base model's values
        self._loan = Loan(self)  # of the user's model and optimizer, while `fit` runs
        self._optimizer: BorrowedOptimizer  # once the first batch has arrived
        self._train = self._first_call  # an iterator over batches -> the logs of some of them

    def get_config(self) -> dict:
        """The arguments, ready for JSON, except `support`, which is data. The inverse of `from_config`."""
        return {
            "budget": dataclasses.asdict(self.budget),
            "last_blocks": self.last_blocks,
            "layers": self.layers and list(self.layers),
            "kinds": self.kinds,
            "strategy": self.strategy,
            "head": self.head,
            "plan": self._given_plan and self._given_plan.to_json(),
            "accounting": self.accounting and _accounting_config(self.accounting),
            "seed": self.seed,
            "cache_frozen": self.cache_frozen,
            "verbose": self.verbose,
        }

    @classmethod
    def from_config(cls, config: dict) -> "TinyTrainCallback":
        """A callback of the same arguments."""
        config = {**config, "budget": Budget(**config["budget"]), "plan": config["plan"] and Plan.from_json(config["plan"])}
        if config["accounting"]:
            fields = dict(config["accounting"])
            config["accounting"] = _ACCOUNTINGS[fields.pop("kind")](**fields)
        return cls(**config)

    def on_train_begin(self, logs=None):
        self._give_back()  # from a fit that broke off
        self._other_callbacks = other_callbacks(self)
        check_fit(self.model, self._other_callbacks)
        self._loan, self._train = Loan(self), self._first_call
        self._loan.replace(self.model, "train_function", lambda iterator: self._train(iterator))

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch
        if self.strategy == "redrawn" and self._slices and self.plan:
            self.plan = redraw(self.plan, layer_table(canonical_form(self._described)), epoch=epoch, seed=self.seed)
            move_slices(self._slices, self.model, self.plan)
            self._optimizer.forget()

    def on_train_end(self, logs=None):
        if self._before is not None:
            if self._described is not self.model:
                copy_weights(self.model, self._described)
            self.delta = Delta.between(self._before, self._described)
            if self.cache and self.verbose:
                print(f"frozen part: run for {self.cache.num_computed:,} samples, read for {self.cache.num_read:,}")
        self._give_back()

    def print_trainable_parameters(self) -> None:
        """Print how many weights are trained, and of how many. Raises ValueError before the first batch has arrived."""
        if self._described is None or self.plan is None:
            raise ValueError("The plan is not known before the first batch of `fit` has arrived. Call fit first.")
        model = canonical_form(self._described)
        trained = paper_cost.num_trained_weights(layer_table(model), paper_cost.num_channels(self.plan))
        kernels = (each.shape for each in model.weights if len(each.shape) > 1 and "bias" not in each.name)
        total = sum(map(math.prod, kernels))
        print(f"trained weights: {trained:,} of {total:,} ({100 * trained / total:.2f} %)")

    def _first_call(self, iterator):
        """Stands in for the train function until the plan is chosen, on `support` or on the first batch."""
        first, resumed = next(iterator), self._kept()
        x, y = keras.utils.unpack_x_y_sample_weight(first)[:2]
        build_sequential(self.model, keras.tree.flatten(x)[0])
        support = self.support and tuple(part if isinstance(part, dict) else np.asarray(part) for part in self.support)
        inference = self_changing_layers(self.model, x)
        plan = self._begin(support or (x, y), resumed)
        self._train = self._optimizer.following(self._sparse_train_function(plan, inference))
        rest = itertools.islice(iterator, steps_per_execution(self.model) - 1)
        return self._train(itertools.chain([first], rest))

    def _begin(self, support, resumed):
        """Choose the plan, and make an optimizer that knows the chosen channels only."""
        model = self.model
        self._described = twin(model) if is_keras2(model) else model
        (plan, before), new_heads = resumed or (self._given_plan, None), {}
        if plan is None:
            plan, new_heads = self._choose(*support)
        check_plan(plan, model)
        redrawn = self.strategy == "redrawn"
        if redrawn:
            plan = redraw(plan, layer_table(canonical_form(self._described)), epoch=self._epoch, seed=self.seed)
        self._before = before or snapshot(self._described, _whole_layers(self._described, plan) if redrawn else plan)
        for name, weights in new_heads.items():
            find_layer(model, name).set_weights(weights)
        self.plan, self._slices = plan, channel_slices(model, plan)
        self._optimizer = BorrowedOptimizer(self._loan, model, channel_optimizer(model.optimizer, self._slices))
        self._tell(plan, self._before, resumed)
        return plan

    def _tell(self, plan, before, resumed):
        """Let the other callbacks, and the user, know the plan."""
        for backup in self._others("BackupAndRestore"):
            if resumed:
                _resume.load_optimizer(backup.backup_dir, self._optimizer.channels)
            else:
                _resume.keep(backup.backup_dir, plan, before)
            self._optimizer.back_up_with(backup)
        for board in self._others("TensorBoard"):
            write_plan(board.log_dir, plan)
        if self.verbose:
            print(f"TinyTrain ({plan.strategy}): {_summary(plan)}")
            if plan.explanation:
                print(plan.explanation.candidates)
            self.print_trainable_parameters()

    def _kept(self):
        """(plan, base values) of the interrupted training that this one resumes; None where it resumes none."""
        found = [_resume.kept(backup.backup_dir) for backup in self._others("BackupAndRestore")]
        return next(filter(None, found), None)

    def _others(self, kind):
        """The other callbacks of Keras' class `kind`."""
        kind = getattr(keras_package(self.model).callbacks, kind)
        return [callback for callback in self._other_callbacks if isinstance(callback, kind)]

    def _sparse_train_function(self, plan, inference):
        """The train function for the chosen channels."""
        model, settings = self.model, {"optimizer": self._optimizer.channels, "inference": inference}
        step = functools.partial(sparse_train_step, model, self._slices, **settings)
        if not self._cache_bytes:
            return train_function(model, step) if is_keras2(model) else keras3_train_function(model, step)
        if is_keras2(model):
            raise ValueError("cache_frozen needs a Keras 3 model; received one of tf_keras. Leave cache_frozen out.")
        frozen, trainable = split_for_cache(model, plan)
        self.cache = cache = FrozenCache(frozen, self._cache_bytes)
        prepare = functools.partial(_with_features, cache)
        return train_function(model, functools.partial(step, forward=trainable), prepare=prepare)

    def _choose(self, x, y):
        """(plan, {name of a new head: weights that it starts from})."""
        (x,) = map(np.asarray, keras.tree.flatten(x))
        options = {name: getattr(self, name) for name in ("last_blocks", "layers", "kinds", "strategy", "seed")}
        options["accounting"] = self.accounting or DeviceAccounting(features="flash")
        options["frozen"] = frozen_layers(self.model)
        options["whole_only"] = whole_only(self.model, layer_table(canonical_form(self._described)).names)
        options["head"], no_head = head_of(self._described, self.head, x, y, options["frozen"])
        if no_head and self.verbose:
            print(f"head: none, since {no_head}; head='name' names one")
        loss, head, new_heads = compiled_loss(self.model, x, y), options["head"], {}
        with contextlib.ExitStack() as scored:
            if head and (weights := class_mean_weights(self._described, head, x, y, loss)):
                new_heads[head] = weights
                scored.enter_context(given_weights(find_layer(self._described, head), weights))
            plan = planner.choose(self._described, x, loss, self.budget, **options)
        self.model.reset_metrics()
        return plan, new_heads

    def _give_back(self):
        """Make the model the user's own again."""
        self._loan.give_back()
        self._before, self._slices = None, []


def _accounting_config(accounting):
    if not isinstance(accounting, (DeviceAccounting, PaperAccounting)):
        raise ValueError(f"get_config expects an accounting of {sorted(_ACCOUNTINGS)}. Received: {type(accounting).__name__}")
    return {"kind": type(accounting).__name__, **dataclasses.asdict(accounting)}


def _with_features(cache, data):
    """A batch with the frozen part's output in place of its samples."""
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    (x,) = keras.tree.flatten(x)
    return cache(x), y, sample_weight


def _whole_layers(model, plan):
    """All channels of the layers of `plan`."""
    table = layer_table(canonical_form(model))
    return Plan(tuple(LayerPlan(layer.name, tuple(range(table[layer.name].num_channels))) for layer in plan.layers))


def _summary(plan):
    return ", ".join(f"{layer.name} ({len(layer.channels)} channels)" for layer in plan.layers)
