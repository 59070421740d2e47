"""From a page's evidence to the answer to a question about it: scores, none of these, and what decided.

Owns the categories by name and the lexicon's entries as rivals. One thread uses it.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from classifier_worker.core.answer import PageAnswer, PageEvidence, Phrase, Question
from classifier_worker.core.fusion import soften, weigh_channels
from classifier_worker.core.rivals import none_probability, rivals_of
from classifier_worker.models.bundle import Bundle
from classifier_worker.models.categories import Categories, Category
from classifier_worker.models.encoder import Encoder
from classifier_worker.models.evidence import Evidence, channel_scores, trait_table

_MOST_PHRASES: Final = 10
_MOST_PHRASE_CHARACTERS: Final = 120

Logits = NDArray[np.float64]


class Judge:
    """Knows the bundle's numbers and what the names mean."""

    def __init__(self, bundle: Bundle, encoder: Encoder, *, cached_categories: int) -> None:
        self._bundle = bundle
        self._categories = Categories(
            bundle.cues.entries,
            encode=encoder.encode_names,
            encode_look=encoder.encode_look_names if bundle.look.has_names else None,
            capacity=cached_categories,
        )
        self._traits = trait_table(bundle.cues)
        self._rival_names = tuple(entry.name for entry in bundle.cues.entries)
        self._rivals: list[Category] = []

    def learn_lexicon(self) -> None:
        """Encode what the lexicon holds; call it once, before `answer`."""
        both = self._bundle.fitted.get("entry_vectors")
        is_ours = both is not None and both.shape[-1] == self._bundle.text.width
        self._categories.learn_lexicon(both if is_ours else None)
        self._rivals = self._categories.of_entries()

    def answer(self, evidence: Evidence, question: Question) -> PageAnswer:
        """Return what the page is, by its evidence."""
        names, config = question.categories, self._bundle.config
        categories = self._categories.look_up(names)
        parts = self._logits(evidence, names, categories)
        logits = _total(parts, len(names))
        probabilities = soften(logits, temperature=config.temperature)
        kin = np.stack([category.kin for category in categories])
        none = self._none(evidence, categories, kin, logits) if question.is_none_wanted else 0.0
        told = self._evidence(evidence, parts, kin, int(logits.argmax())) if question.is_evidence_wanted else None
        return PageAnswer(probabilities, none, told)

    def _none(self, evidence: Evidence, categories: list[Category], kin: NDArray[np.float32], logits: Logits) -> float:
        """Return the probability that the page is something which the lexicon knows and nobody offered."""
        rivals = _total(self._logits(evidence, self._rival_names, self._rivals), len(self._rivals))
        cosines = np.stack([c.vector for c in categories]) @ np.stack([r.vector for r in self._rivals]).T
        standing = rivals[rivals_of(kin, self._bundle.cues.kinds, cosines)]
        config = self._bundle.config
        return none_probability(logits, standing, config.none_scale, temperature=config.temperature)

    def _logits(self, evidence: Evidence, names: tuple[str, ...], categories: list[Category]) -> dict[str, Logits]:
        channels = channel_scores(evidence, names, categories, traits=self._traits, fitted=self._bundle.fitted)
        return weigh_channels(channels, self._bundle.config.channels)

    def _evidence(
        self, evidence: Evidence, parts: Mapping[str, Logits], kin: NDArray[np.float32], best: int
    ) -> PageEvidence:
        channels = {
            name: float(part[best] - np.delete(part, best).mean() if len(part) > 1 else part[best])
            / self._bundle.config.temperature
            for name, part in parts.items()
        }
        idf = self._bundle.fitted.get("cue_idf")
        lines = self._bundle.cues.telling_lines(evidence.sight.text, kin[best], idf, most=_MOST_PHRASES)
        return PageEvidence(channels, tuple(Phrase(line.text[:_MOST_PHRASE_CHARACTERS], line.box) for line in lines))


def _total(parts: Mapping[str, Logits], count: int) -> Logits:
    return np.sum(list(parts.values()), axis=0) if parts else np.zeros(count)
