"""What a job asks of the model about a page, and what the model answers: the two sides of the Classifier port.

Plain data between the job and the wall of the models. Probabilities stand in the order of the question's names.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from classifier_worker.core.page import Box


@dataclass(frozen=True, slots=True)
class Question:
    """The names that a page may have, and what the answer should say besides their probabilities."""

    categories: tuple[str, ...]
    is_evidence_wanted: bool = False
    is_none_wanted: bool = True  #: costs a comparison with all that the lexicon knows


@dataclass(frozen=True, slots=True)
class Phrase:
    """Words on the page that spoke for the best category, and where they stand."""

    text: str
    box: Box


@dataclass(frozen=True, slots=True)
class PageEvidence:
    """What decided about a page.

    `channels` holds, by the channel's name, how much it added to the best category's logit against the mean of the
    other categories'; `phrases` come strongest first.
    """

    channels: Mapping[str, float]
    phrases: tuple[Phrase, ...]


@dataclass(frozen=True, slots=True)
class PageAnswer:
    """What the model thinks of a page.

    The joint distribution is `(probabilities * (1 - none), none)`.
    """

    probabilities: NDArray[np.float64]  #: (C,), sums to 1: given that one of the names fits
    none: float  #: the probability that none of them fits; 0 when not asked
    evidence: PageEvidence | None = None
