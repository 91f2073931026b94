"""How often the tests of this folder try: by themselves a few hundred times, for docs/reliability.md as often as they are told."""

import os

SEED = int(os.environ.get("TINYTRAIN_SEED", "0"))  # of the damage


def trials(ordinarily: int) -> int:
    """The number of trials of each kind: TINYTRAIN_TRIALS, or what is `ordinarily` enough."""
    return int(os.environ.get("TINYTRAIN_TRIALS", ordinarily))


def rounds(ordinarily: int) -> int:
    """The number of rounds of a long run: TINYTRAIN_ROUNDS, or what is `ordinarily` enough."""
    return int(os.environ.get("TINYTRAIN_ROUNDS", ordinarily))
