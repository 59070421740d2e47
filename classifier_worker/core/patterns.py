"""What the lines of a page look like as text, whatever their language: dates, times, amounts, references, code.

Owns the expressions. Each feature is a share of the page's lines or a logarithm of a count, so that a long page
is not louder than a short one.
"""

import math
import re
from collections.abc import Sequence
from typing import Final

_MONTHS: Final = (
    r"(?:jan|feb|mar|m[äa]r|apr|avr|abr|ma[iy]o?|jun|juin|jul|juil|aug|ago|ao[uû]|sep|set|oct|okt|out|nov|dec|dez|dic)"
)
_DATE: Final = (
    rf"(?:\d{{1,2}}[./-]\d{{1,2}}(?:[./-]\d{{2,4}})?|\d{{4}}-\d\d(?:-\d\d)?"
    rf"|\d{{1,2}}\.?\s?{_MONTHS}[a-zäçé]*\.?|{_MONTHS}[a-z]*\.?\s\d{{1,2}})\b"
)

#: Shares of lines that match at their beginning or anywhere.
_LINES: Final = {
    "dated_rows": re.compile(rf"^\W{{0,2}}{_DATE}", re.IGNORECASE),
    "times": re.compile(r"(?<![\d:.])(?:[01]?\d|2[0-3]):[0-5]\d(?![\d.])"),
    "amounts": re.compile(r"\d[.,]\d\d(?![\d.,])"),
    "percents": re.compile(r"\d\s?%"),
    "sections": re.compile(
        r"^(?:§|art(?:icle|ikel|ículo|icolo|igo|\.)\s*\d|sec(?:tion|c?i[oó]n|ção|\.)\s*\d|clause\s*\d"
        r"|\(?(?:[a-hj-z]|[ivx]{1,4}|\d{1,2})\)\s|\d{1,2}\.\d{1,2}(?:\.\d{1,2})*\.?\s)",
        re.IGNORECASE,
    ),
    "code": re.compile(
        r"[;{}]\s*$|^\s*(?:#include|#define|import |from \w+ import|def |class |return\b|if\s*\(|for\s*\(|while\s*\()"
        r"|^\s*</?\w+[^<]*>|\(\);|=>|[!=]=|::\w|&&|\|\|"
    ),
    "machine_readable": re.compile(r"<<|[A-Z0-9]<[A-Z0-9]{0,20}<"),
    "quotes": re.compile(r"[“”«»„]|(?:^|\s)\"\w"),
    "units": re.compile(
        r"\d\s?(?:mm|cm|km|kg|mg|ml|µ[a-z]|[mkμ]?[VAWΩ]|[kMG]?Hz|[kMG]B|°[CF]?|dB|psi|bar)(?![A-Za-z])"
    ),
    "designators": re.compile(r"(?<![A-Za-z0-9])(?:[RCLUQDJTXY]|IC|SW|TP|LED)\d{1,3}(?![A-Za-z0-9])"),
}
#: How often something stands on the page.
_COUNTS: Final = {
    "citations": re.compile(
        r"\[\d{1,3}(?:\s?[,–-]\s?\d{1,3})*\]|\bet al\b|\([A-Z]\w+[^()]{0,30},? (?:19|20)\d\d[a-z]?\)"
    ),
    "contact": re.compile(r"[\w.+-]+@[\w-]+\.\w+|\bwww\.\w|https?://|\+\d[\d ()-]{7,}|\(\d{3}\)\s?\d{3}"),
    "spans": re.compile(
        r"(?:19|20)\d\d\s?(?:-|–|—|to|bis|à)\s?(?:(?:19|20)\d\d|present|now|current|heute|présent|actual)",
        re.IGNORECASE,
    ),
}
_MATHEMATICS: Final = frozenset("∑∫√≤≥≈≠∈∉∂∇∞±×÷∀∃→⇒⊂∪∩λθμσπφψωαβγδεΣΔΠΩ^=")

#: Names of the features that `pattern_features` returns.
PATTERNS: Final = (*_LINES, *_COUNTS, "formulas", "capital_lines")


def pattern_features(texts: Sequence[str]) -> dict[str, float]:
    """Return the features of the page's lines of text: shares 0..1, counts as logarithms."""
    count = max(len(texts), 1)
    whole = "\n".join(texts)
    dense = max(len(whole), 1)
    features = {name: sum(found.search(text) is not None for text in texts) / count for name, found in _LINES.items()}
    features |= {name: math.log1p(len(found.findall(whole))) for name, found in _COUNTS.items()}
    features["formulas"] = math.log1p(1000 * sum(letter in _MATHEMATICS for letter in whole) / dense)
    wordy = [text for text in texts if sum(map(str.isalpha, text)) > 3]
    features["capital_lines"] = sum(text.isupper() for text in wordy) / max(len(wordy), 1)
    return features
