"""The form fields that ask for more than categories: `none_of_these` and `evidence`. Pure."""

import re
from dataclasses import dataclass
from typing import Any, Final

from schemas.errors import DocfleetError, ErrorCode

#: The form fields.
OPTIONS: Final = ("none_of_these", "evidence")

#: What `none_of_these=true` means.
_USUAL_THRESHOLD: Final = 0.5
_NUMBER: Final = re.compile(r"[0-9.]+(?:[eE][+-]?[0-9]+)?")
_TRUTH: Final = {"true": True, "false": False}
#: Most characters of a wrong value that a refusal repeats.
_SHOWN_CHARACTERS: Final = 40


@dataclass(frozen=True, slots=True)
class Options:
    """What a client asks for besides the best category."""

    none_of_these: float | None = None  #: from this probability on the answer is that no category fits; None: not asked
    evidence: bool = False

    def changed(self) -> dict[str, Any]:
        """Return the options that are not at their default, so that posts without any look as they did before."""
        asked: dict[str, Any] = {"none_of_these": self.none_of_these, "evidence": self.evidence}
        return {name: value for name, value in asked.items() if value is not None and value is not False}

    def refuse_ambiguous(self, categories: tuple[str, ...]) -> None:
        """Refuse a category that the score of none of these could be taken for.

        Raises:
            DocfleetError: INVALID_CATEGORIES.

        """
        if self.none_of_these is None and len(categories) > 1:
            return
        for position, name in enumerate(categories, start=1):
            if re.sub(r"[\s_]+", "_", name.casefold()) == "none_of_these":
                fault = f'category {position} is named like the score of "none_of_these" in the result; rename it.'
                raise DocfleetError(ErrorCode.INVALID_CATEGORIES, fault)


def parse_none_of_these(text: str) -> float | None:
    """Return the threshold, None for `false`; INVALID_OPTION otherwise."""
    word = text.strip().casefold()
    if word in _TRUTH:
        return _USUAL_THRESHOLD if _TRUTH[word] else None
    try:
        threshold = float(word) if _NUMBER.fullmatch(word) else -1.0
    except ValueError:
        threshold = -1.0
    if not 0.0 <= threshold <= 1.0:
        raise _invalid("none_of_these must be true, false or a number from 0 to 1", text)
    return threshold


def parse_evidence(text: str) -> bool:
    """Return whether evidence is asked for; INVALID_OPTION when that is neither true nor false."""
    word = text.strip().casefold()
    if word not in _TRUTH:
        raise _invalid("evidence must be true or false", text)
    return _TRUTH[word]


def _invalid(allowed: str, text: str) -> DocfleetError:
    shown = text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"
    return DocfleetError(ErrorCode.INVALID_OPTION, f"{allowed}, not {shown!r}.")
