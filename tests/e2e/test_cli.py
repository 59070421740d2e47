"""`docfleet classify` and `docfleet keys` against a running stack."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from docfleet.stack.ports import free_port
from tests import documents
from tests.e2e.running import RunningStack, command

OURS = ("DOCFLEET_URL", "DOCFLEET_API_KEY", "DATABASE_URL")


def docfleet(*arguments: str, at: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: text for name, text in os.environ.items() if name not in OURS}
    return subprocess.run(
        [*command(), *arguments],
        env={**inherited, **environment},
        cwd=at,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


@pytest.fixture
def invoice(tmp_path: Path) -> Path:
    file = tmp_path / "invoice.pdf"
    file.write_bytes(documents.pdf(pages=2))
    return file


def test_table_shows_the_answer(stack: RunningStack, invoice: Path) -> None:
    shown = docfleet("classify", str(invoice), "-c", "invoice", "menu", "--data-dir", str(stack.data_dir), "--pages")
    assert shown.returncode == 0, shown.stderr
    head, document, first_page, second_page = shown.stdout.splitlines()
    assert head.split() == ["FILE", "CLASSIFICATION", "CONFIDENCE", "PAGES", "RUNNER-UP"]
    assert document.split()[:2] == [str(invoice), "invoice"]
    assert document.split()[3] == "2/2"
    assert first_page.split()[:3] == ["page", "1", "invoice"]
    assert second_page.split()[:3] == ["page", "2", "invoice"]


def test_json_lines_are_the_jobs_in_the_order_of_the_files(stack: RunningStack, invoice: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.pdf"
    broken.write_bytes(b"%PDF-1.7\nnothing else")
    other = tmp_path / "text.txt"
    other.write_text("not a document")
    categories = tmp_path / "categories.txt"
    categories.write_text("invoice\n\nmenu\n")
    shown = docfleet(
        *("classify", str(broken), str(invoice), str(other), "--categories", str(categories), "--json"),
        DOCFLEET_URL=stack.url,
        DOCFLEET_API_KEY=stack.api_key,
    )
    assert shown.returncode == 1, shown.stderr
    failed, completed, refused = map(json.loads, shown.stdout.splitlines())
    assert [failed["file"], completed["file"], refused["file"]] == [str(broken), str(invoice), str(other)]
    assert (failed["status"], failed["result"]) == ("failed", None)
    assert failed["error"]
    assert completed["result"]["classification"] == "invoice"
    assert (refused["status"], refused["job_id"]) == ("failed", None)
    assert refused["error_code"] == "UNSUPPORTED_FORMAT"


def test_none_of_these_and_evidence_reach_the_answer(stack: RunningStack, invoice: Path) -> None:
    here = ("--data-dir", str(stack.data_dir), "--none-of-these", "0", "--evidence")
    shown = docfleet("classify", str(invoice), "-c", "invoice", "menu", *here, "--json")
    assert shown.returncode == 0, shown.stderr
    result = json.loads(shown.stdout)["result"]
    assert result["classification"] == "none_of_these"
    assert [page["raw_result"] for page in result["page_results"]] == ["invoice", "invoice"]
    assert all("evidence" in page for page in result["page_results"])
    table = docfleet("classify", str(invoice), "-c", "invoice", "menu", *here).stdout
    assert table.count("  because ") == 2


def test_created_key_works_until_it_is_revoked(stack: RunningStack, invoice: Path) -> None:
    here = ("--data-dir", str(stack.data_dir))
    created = docfleet("keys", "create", "--name", "ann", "--quota", "7", *here)
    key = created.stdout.strip()
    assert created.returncode == 0, created.stderr
    assert key.startswith("df_")
    assert len(key) == 46
    posted = docfleet("classify", str(invoice), "-c", "invoice", "--url", stack.url, "--api-key", key)
    assert posted.returncode == 0, posted.stdout + posted.stderr

    listed = docfleet("keys", "list", DATABASE_URL=stack.description["postgres_dsn"])
    assert key not in listed.stdout
    (row,) = [line.split() for line in listed.stdout.splitlines() if " ann " in line]
    key_id, _, prefix, quota, used, *_ = row
    assert (prefix, quota, used) == (key[:8], "7", "1")

    assert docfleet("keys", "revoke", key_id, *here).returncode == 0
    assert docfleet("keys", "revoke", key_id, *here).returncode == 1
    listed = docfleet("keys", "list", *here)
    (row,) = [line.split() for line in listed.stdout.splitlines() if " ann " in line]
    assert len(row) == 9, "the time of revocation is shown"


def test_key_of_nobody_is_told(stack: RunningStack, invoice: Path) -> None:
    shown = docfleet("classify", str(invoice), "-c", "invoice", "--url", stack.url, "--api-key", "df_wrong", "--json")
    assert shown.returncode == 1
    assert json.loads(shown.stdout)["error_code"] == "UNAUTHORIZED"


def test_missing_extra_is_told_in_one_sentence(tmp_path: Path) -> None:
    without_jgo = "import sys; sys.modules['jgo'] = None; from docfleet.cli import main; sys.exit(main(sys.argv[1:]))"
    up = [sys.executable, "-c", without_jgo, "up", "--port", "0", "--data-dir", str(tmp_path / "data")]
    refused = subprocess.run(up, capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == 2
    assert refused.stderr == "docfleet up: not installed: jgo; run: pip install 'docfleet[local]'\n"


def test_missing_prometheus_is_told_in_one_sentence(tmp_path: Path) -> None:
    refused = docfleet("up", "--monitoring", "--data-dir", str(tmp_path / "data"), PATH="")
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert "apt install --no-install-recommends prometheus" in refused.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("classify", "no-such-file.pdf", "-c", "invoice", "--url", "http://127.0.0.1:9", "--api-key", "k"),
        ("classify", __file__, "-c", "invoice", "--url", "http://127.0.0.1:9"),
        ("classify", __file__, "--url", "http://127.0.0.1:9", "--api-key", "k"),
        ("classify", __file__, "-c", "x", "--none-of-these", "1.5", "--url", "http://127.0.0.1:9", "--api-key", "k"),
        ("up", "--workers", "-1"),
        ("top", "--interval", "0"),
        ("top", "--namespace", "docfleet"),
        ("top", "--metrics", "127.0.0.1:8081"),
        ("top", "--metrics", "http://127.0.0.1:9/metrics", "--prometheus", "http://127.0.0.1:9"),
        ("keys", "create"),
        ("keys", "list", "--data-dir", "/no/such/folder"),
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: tuple[str, ...], tmp_path: Path) -> None:
    refused = docfleet(*arguments, at=tmp_path)
    assert refused.returncode == 2, refused.stdout
    assert refused.stderr


def test_system_that_is_away_is_a_failure_that_says_so(invoice: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    shown = docfleet("classify", str(invoice), "-c", "invoice", "--url", url, "--api-key", "k")
    assert shown.returncode == 1
    assert f"{url} cannot be reached" in shown.stdout


def test_evaluate_measures_a_running_system(stack: RunningStack, invoice: Path, tmp_path: Path) -> None:
    (tmp_path / "menu.pdf").write_bytes(documents.pdf(pages=1, text="MENU\nStarters\nSoup 4.50\nDesserts\nCake 3.00"))
    manifest = tmp_path / "manifest.csv"
    manifest.write_text(f"path,label\n{invoice.name},invoice\nmenu.pdf,menu\n")
    answers = tmp_path / "answers.jsonl"
    system = ("--url", stack.url, "--api-key", stack.api_key)
    shown = docfleet("evaluate", str(manifest), *system, "--json", str(answers))
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith("default@")
    lines = [json.loads(line) for line in answers.read_text().splitlines()]
    assert [(line["path"], line["prediction"]) for line in lines] == [("invoice.pdf", "invoice"), ("menu.pdf", "menu")]
