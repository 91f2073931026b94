"""The plan and its scores for TensorBoard."""

import os

import tensorflow as tf

from keras_tinytrain.choose.explain import explanation_of
from keras_tinytrain.choose.ranking import Ranking
from keras_tinytrain.plan import Plan


def write_plan(log_dir: str | os.PathLike, plan: Plan) -> None:
    """Write `plan` into the run `train` of TensorBoard's `log_dir`, at step 0.

    Text `tinytrain/plan`: why each layer was taken or left, or the plan as JSON where that is not known. Scalars
    `tinytrain/num_channels/<layer>`; and, where scores are known, scalars `tinytrain/score/<layer>` and histograms
    `tinytrain/channel_scores/<layer>` of every candidate.
    """
    ranking = explanation_of(plan).ranking if plan.explanation else Ranking({}, {})
    writer = tf.summary.create_file_writer(os.path.join(log_dir, "train"), filename_suffix=".tinytrain")
    with writer.as_default(step=0), tf.summary.record_if(True):
        text = plan.explain() if plan.explanation else plan.to_json()
        tf.summary.text("tinytrain/plan", f"```\n{text}```")
        for layer in plan.layers:
            tf.summary.scalar(f"tinytrain/num_channels/{layer.name}", len(layer.channels))
        for name, score in ranking.layers.items():
            tf.summary.scalar(f"tinytrain/score/{name}", score)
            tf.summary.histogram(f"tinytrain/channel_scores/{name}", ranking.channels[name])
    writer.close()
