"""The `result` of a job: which category it tells, and the object of the HTTP contract in the order it is told.

Owns what none_of_these, review and evidence mean. Keys beyond the contract's fixed ones appear only where the request
asked for them. The arithmetic is in `core/fusion.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from classifier_worker.core.answer import PageAnswer, PageEvidence
from classifier_worker.core.fusion import PageWeights, combine_answers, joint_distribution, rank_scores
from classifier_worker.core.page import Document, Page, UnreadPage

#: The key in `scores`, and the `classification`, of a document that no category fits.
NONE_OF_THESE: Final = "none_of_these"

#: A person should look where the told category is less likely than this,
_LEAST_CONFIDENCE: Final = 0.5
#: or where the two best scores are closer than this.
_LEAST_MARGIN: Final = 0.2

#: Bounds of the evidence of a page, so that a result with 500 names still fits into an event.
_MOST_PHRASES: Final = 10
_MOST_PHRASE_CHARACTERS: Final = 100
_MOST_CHANNELS: Final = 20


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request wants to know."""

    categories: tuple[str, ...]
    none_of_these: float | None = None  #: from this score on nothing fits; None: not asked
    is_evidence_wanted: bool = False

    @property
    def is_none_told(self) -> bool:
        """Whether `scores` hold none_of_these: always for one name, whose score would else be 1 by construction."""
        return self.none_of_these is not None or len(self.categories) == 1


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is told of a page or a document."""

    classification: str
    raw_result: str  #: the best category, whatever the score of none_of_these
    scores: Mapping[str, float]  #: in falling order
    is_doubtful: bool  #: for its own scores alone

    @property
    def confidence(self) -> float:
        """The score of what is told."""
        return self.scores[self.classification]


def judge(answer: PageAnswer, asked: Asked) -> Verdict:
    """Return what an answer comes to.

    The best category has the highest score; where six digits do not tell two apart, the one that is likelier given
    that a name fits, then the first by name.
    """
    given = rank_scores(asked.categories, answer.probabilities)
    if asked.is_none_told:
        scores = rank_scores((*asked.categories, NONE_OF_THESE), joint_distribution(answer))
    else:
        scores = given
    raw_result = min(given, key=lambda name: (-scores[name], -given[name], name))
    is_none = asked.none_of_these is not None and scores[NONE_OF_THESE] >= asked.none_of_these
    classification = NONE_OF_THESE if is_none else raw_result
    best, *others = scores.values()
    is_close = bool(others) and round(best - others[0], 6) < _LEAST_MARGIN
    is_doubtful = scores[classification] < _LEAST_CONFIDENCE or is_close
    return Verdict(classification, raw_result, scores, is_doubtful)


def build_result(
    document: Document,
    answers: Sequence[PageAnswer | None],
    asked: Asked,
    *,
    page_weights: PageWeights,
    model: str,
) -> dict[str, object]:
    """Return the `result` object, its keys and scores in the order they are told.

    `answers` are those of the document's pages, None for a page that could not be read; at least one could.
    """
    read = [(page.number, one) for page, one in zip(document.pages, answers, strict=True) if one is not None]
    verdict = judge(combine_answers(read, page_weights), asked)
    pages = [_page_result(page, answer, asked) for page, answer in zip(document.pages, answers, strict=True)]

    result: dict[str, object] = {"success": True, "classification": verdict.classification}
    if document.is_image:
        result["raw_result"] = verdict.raw_result
    result["confidence"] = verdict.confidence
    if asked.none_of_these is not None:
        do_pages_disagree = len({page["classification"] for page in pages if page["success"]}) > 1
        result["review"] = verdict.is_doubtful or do_pages_disagree
    result["total_pages"] = document.total_pages
    result["processed_pages"] = len(pages)
    if not document.is_image:
        result["page_results"] = pages
    result |= {"scores": dict(verdict.scores), "model": model}
    if document.is_image and asked.is_evidence_wanted:
        result["evidence"] = pages[0]["evidence"]
    return result


def _page_result(page: Page | UnreadPage, answer: PageAnswer | None, asked: Asked) -> dict[str, object]:
    """Return the entry of `page_results`; a failed page names the first category with confidence 0."""
    is_review_told = asked.none_of_these is not None
    if answer is None:
        failed = {"page": page.number, "success": False, "classification": asked.categories[0], "confidence": 0.0}
        error = page.error if isinstance(page, UnreadPage) else ""
        return failed | ({"review": True} if is_review_told else {}) | {"error": error}
    verdict = judge(answer, asked)
    entry: dict[str, object] = {
        "page": page.number,
        "success": True,
        "classification": verdict.classification,
        "raw_result": verdict.raw_result,
        "confidence": verdict.confidence,
    }
    if is_review_told:
        entry["review"] = verdict.is_doubtful
    entry["scores"] = dict(verdict.scores)
    if asked.is_evidence_wanted:
        entry["evidence"] = _evidence(answer.evidence)
    return entry


def _evidence(evidence: PageEvidence | None) -> dict[str, object]:
    """Return the `evidence` of a page within its bounds; empty where the model gave none."""
    if evidence is None:
        return {"channels": {}, "phrases": []}
    channels = sorted(evidence.channels.items(), key=lambda channel: (-abs(channel[1]), channel[0]))
    return {
        "channels": {name: round(float(value), 3) for name, value in channels[:_MOST_CHANNELS]},
        "phrases": [
            {
                "text": _shortened(phrase.text),
                "box": [
                    round(float(side), 4)
                    for side in (phrase.box.left, phrase.box.top, phrase.box.right, phrase.box.bottom)
                ],
            }
            for phrase in evidence.phrases[:_MOST_PHRASES]
        ],
    }


def _shortened(text: str) -> str:
    """Return the text on one line, bounded, without what no event can carry, such as lone surrogates."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= _MOST_PHRASE_CHARACTERS else text[: _MOST_PHRASE_CHARACTERS - 1] + "…"
