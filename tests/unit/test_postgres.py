"""Statements by name."""

import pytest

from docfleet.postgres import load_queries


@pytest.mark.parametrize("package", ["docfleet", "producer_api", "status_service"])
def test_every_statement_has_a_line_of_purpose(package: str):
    queries = load_queries(package)
    assert queries
    for name, text in queries.items():
        purpose, statement = text.split("\n", 1)
        assert purpose.startswith("-- "), name
        assert statement.strip(), name
        assert not statement.strip().endswith(";"), name
