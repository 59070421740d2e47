"""Which system `docfleet classify` talks to, and with which categories."""

import json
from pathlib import Path

import pytest

from docfleet.commands.classify import UsageError, find_system, read_categories

LOCAL = {"url": "http://127.0.0.1:8080", "api_key": "df_local"}


@pytest.fixture(autouse=True)
def nothing_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DOCFLEET_URL", raising=False)
    monkeypatch.delenv("DOCFLEET_API_KEY", raising=False)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    (tmp_path / "stack.json").write_text(json.dumps(LOCAL))
    return tmp_path


def test_options_come_before_the_environment_and_it_before_the_local_stack(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = find_system(None, None, data_dir)
    assert (local.url, local.api_key) == ("http://127.0.0.1:8080", "df_local")
    monkeypatch.setenv("DOCFLEET_URL", "https://fleet.example/")
    monkeypatch.setenv("DOCFLEET_API_KEY", "df_environment")
    environment = find_system(None, None, data_dir)
    assert (environment.url, environment.api_key) == ("https://fleet.example", "df_environment")
    option = find_system("https://other.example", "df_option", data_dir)
    assert (option.url, option.api_key) == ("https://other.example", "df_option")


def test_local_key_is_never_sent_to_another_system(data_dir: Path) -> None:
    with pytest.raises(UsageError, match=r"no API key for https://fleet\.example"):
        find_system("https://fleet.example", None, data_dir)


def test_no_system_at_all_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="docfleet up"):
        find_system(None, None, tmp_path)


@pytest.mark.parametrize(
    "text",
    ["invoice\n\n bank statement \n", '["invoice", "bank statement"]', '[{"name": "invoice"}, "bank statement"]'],
)
def test_categories_come_from_lines_or_json(tmp_path: Path, text: str) -> None:
    file = tmp_path / "categories"
    file.write_text(text)
    assert read_categories(file) == ["invoice", "bank statement"]


@pytest.mark.parametrize("text", ["", "\n \n", "[]", "[1", '[{"title": "invoice"}]'])
def test_file_without_categories_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "categories"
    file.write_text(text)
    with pytest.raises(UsageError):
        read_categories(file)
