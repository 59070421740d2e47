"""None of these: how likely it is that a page is something that nobody offered.

Owns which kinds of documents of the lexicon stand against the offered names, and the one formula that
weighs the two sides. Zero-shot scores know no "other" by themselves; names of other things, put into the
same softmax, tell pages of offered kinds from pages of none (NegLabel, arXiv 2403.20078).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

#: An entry is no rival of a name that owns this much of it, nor of one that means nearly the same.
_KIN: Final = 0.3
_SAME_MEANING: Final = 0.8


@dataclass(frozen=True, slots=True)
class NoneScale:
    """Platt scaling of the log odds between names and rivals; fitted once per bundle."""

    slope: float = 1.0
    offset: float = 0.0


def rivals_of(kin: NDArray[np.float32], kinds: NDArray[np.float32], cosines: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which entries are rivals (E,), given how much (C, E) the names own of them and how alike they are.

    `kinds` (E, E) is 1 where the row's entry is of the column's kind: a name owns its kinds as it owns their entry.
    """
    owned = (kin @ kinds.T).max(axis=0)
    return np.asarray((owned < _KIN) & (cosines.max(axis=0) < _SAME_MEANING), dtype=np.bool_)


def none_probability(
    offered: NDArray[np.float64], rivals: NDArray[np.float64], scale: NoneScale, *, temperature: float
) -> float:
    """Return the probability that none of the offered names fits, from the logits of both sides (C,) and (R,)."""
    if not len(rivals):
        return 0.0
    return float(
        1.0 / (1.0 + np.exp(np.clip(scale.slope * log_odds(offered, rivals, temperature) + scale.offset, -50, 50)))
    )


def log_odds(offered: NDArray[np.float64], rivals: NDArray[np.float64], temperature: float) -> float:
    """Return the log odds of all offered names together against all rivals together."""
    return float(np.logaddexp.reduce(offered / temperature) - np.logaddexp.reduce(rivals / temperature))
