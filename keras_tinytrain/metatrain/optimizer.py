"""The optimizer that all meta-training shares: AdamW whose rate warms up, then falls by a cosine."""

import keras

_NOT_DECAYED = ["gamma", "beta", "scale", "bias"]  # weight decay is for kernels


def adamw(
    variables: list[keras.Variable], *, learning_rate: float, num_steps: int, warm_up_steps: int, weight_decay: float
) -> keras.optimizers.Optimizer:
    """AdamW, built for `variables`.

    Args:
        variables: that it will train.
        learning_rate: the peak.
        num_steps: in all; the rate rises linearly from 0 to the peak over the first `warm_up_steps`.
        weight_decay: of kernels.
    """
    warm_up = max(1, warm_up_steps)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, max(1, num_steps - warm_up), warmup_target=learning_rate, warmup_steps=warm_up
    )
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=weight_decay)
    optimizer.exclude_from_weight_decay(var_names=_NOT_DECAYED)
    optimizer.build(variables)
    return optimizer
