"""Transductive fine-tuning: all weights learn from the labels of the support set and from how sure the queries are.

Dhillon et al., "A Baseline for Few-Shot Image Classification", ICLR 2020, equation 8: fine-tune the whole network on

    1/N_s sum_s -log p(y_s | x_s)  +  1/N_q sum_q H(p(. | x_q)),      H(p) = -sum_k p_k log p_k

The classifier starts from the support set's class means; here it stays at them, recomputed each step, as in every other method.
The paper that compares with it (Kwon et al., 2024) says no more than its name. Queries are seen without labels, not augmented.
"""

import keras
import numpy as np
import tensorflow as tf

from keras_tinytrain.fewshot.prototypes import class_prototypes, cosine_logits


class TransductiveTuner:
    """Fine-tunes copies of one backbone, task after task.

    Args:
        backbone: images -> embeddings; not changed.
        iterations: steps of Adam.
        learning_rate: Adam's.
    """

    def __init__(self, backbone: keras.Model, *, iterations: int, learning_rate: float):
        self._start = backbone.get_weights()
        self._model = keras.models.clone_model(backbone)
        self._iterations = iterations
        self._optimizer = keras.optimizers.Adam(learning_rate)
        self._optimizer.build(self._model.trainable_variables)
        self._fresh = [np.array(variable) for variable in self._optimizer.variables]
        self._step = tf.function(self._take_step, jit_compile=False, reduce_retracing=True)
        self._embed = tf.function(lambda x: self._model(x, training=False), jit_compile=False, reduce_retracing=True)

    def accuracy(
        self, support_x: np.ndarray, support_y: np.ndarray, views: np.ndarray, query_x: np.ndarray, query_y: np.ndarray
    ) -> float:
        """Fraction of queries whose class is right after fine-tuning.

        Args:
            support_x, support_y: the labelled samples.
            views: (V, N, ...) augmented copies of them, taken in turn.
            query_x: (Q, ...); query_y is looked at only to count.
        """
        self._model.set_weights(self._start)
        for variable, value in zip(self._optimizer.variables, self._fresh):
            variable.assign(value)
        support_x, support_y, query_x = map(tf.convert_to_tensor, (support_x, support_y, query_x))
        num_classes = int(tf.reduce_max(support_y)) + 1
        for iteration in range(self._iterations):
            prototypes = class_prototypes(self._embed(support_x), support_y, num_classes)
            self._step(prototypes, tf.convert_to_tensor(views[iteration % len(views)]), support_y, query_x)
        prototypes = class_prototypes(self._embed(support_x), support_y, num_classes)
        logits = cosine_logits(self._embed(query_x), prototypes)
        return float(np.mean(np.argmax(logits, axis=1) == np.asarray(query_y)))

    def _take_step(self, prototypes, view, labels, query_x):
        variables = self._model.trainable_variables
        with tf.GradientTape() as tape:
            logits = cosine_logits(self._model(tf.concat([view, query_x], 0), training=False), prototypes)
            supervised = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits[: tf.shape(view)[0]])
            loss = tf.reduce_mean(supervised) + tf.reduce_mean(entropy(logits[tf.shape(view)[0] :]))
        self._optimizer.apply(tape.gradient(loss, [variable.value for variable in variables]), variables)
        return loss


def entropy(logits):
    """H(softmax(logits)) over the last axis, in nats: (N, K) -> (N,)."""
    return -tf.reduce_sum(tf.nn.softmax(logits) * tf.nn.log_softmax(logits), axis=-1)
