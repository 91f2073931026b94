"""What evaluating a few-shot classifier gives."""


class Evaluation(float):
    """Accuracy on some samples, a fraction of 1, with the accuracy before learning.

    Attributes:
        before: accuracy of the original network and its prototypes on the same samples.
        reverted: whether the learned weights were taken back because they answered fewer of these samples right. The number
            itself is the classifier's accuracy after that, so it then equals `before`.
    """

    before: float
    reverted: bool

    def __new__(cls, accuracy: float, *, before: float, reverted: bool = False) -> "Evaluation":  # noqa: PYI034 (Self is of 3.11)
        self = super().__new__(cls, accuracy)
        self.before, self.reverted = before, reverted
        return self
