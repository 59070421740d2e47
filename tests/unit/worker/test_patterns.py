"""core/patterns: what lines look like, whatever their language."""

import math

import pytest

from classifier_worker.core.patterns import PATTERNS, pattern_features


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("dated_rows", "03.04.2025 Gehalt 2.110,00"),
        ("dated_rows", "Mar 14 direct debit"),
        ("times", "Abfahrt 17:05 Gleis 4"),
        ("amounts", "Bench vice 168.00"),
        ("percents", "VAT 20 %"),
        ("sections", "§ 12 Haftung"),
        ("sections", "Article 5 Duties"),
        ("sections", "2.1 Scope"),
        ("code", "    return found;"),
        ("code", "def main():"),
        ("machine_readable", "P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<"),
        ("quotes", "“I never saw him,” she said"),
        ("units", "supply voltage 3.3 V"),
        ("designators", "R12 10k C3 100n"),
        ("citations", "as shown in [12, 13] and by Smith et al."),
        ("contact", "tobin@example.org"),
        ("spans", "2016 - 2019 Assistant engineer"),
        ("formulas", "∑ x ≤ y"),
        ("capital_lines", "FOR IMMEDIATE RELEASE"),
    ],
)
def test_pattern_is_found_where_it_is_and_only_there(name: str, text: str) -> None:
    assert pattern_features([text])[name] > 0
    assert pattern_features(["thank you for your kind letter of last week"])[name] == 0


def test_shares_do_not_grow_with_the_page() -> None:
    line = "03.04.2025 Gehalt"
    assert pattern_features([line])["dated_rows"] == pattern_features([line] * 50)["dated_rows"] == 1


def test_nothing_has_every_feature_at_nothing() -> None:
    features = pattern_features([])
    assert list(features) == list(PATTERNS)
    assert all(value == 0 and math.isfinite(value) for value in features.values())
