"""`docfleet evaluate` in process, on documents made here: fixed answers, the files it writes, wrong input."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import made_corpus

#: Not held to its name: its page is too short to be told surely from a resume.
UNSURE = frozenset({"scientific_paper"})


@dataclass(frozen=True)
class Evaluated:
    shown: subprocess.CompletedProcess[str]
    report: str
    lines: dict[str, dict]


def evaluate(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "docfleet.cli", "evaluate", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    folder = tmp_path_factory.mktemp("made")
    manifest = made_corpus.write(folder)
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7\nnothing <else>")
    with manifest.open("a") as file:
        file.write("broken.pdf,invoice\n")
    shown = evaluate(
        manifest, "--ways", "all,5", "--report", folder / "report.html", "--json", folder / "answers.jsonl"
    )
    assert shown.returncode == 0, shown.stderr
    lines = [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]
    return Evaluated(shown, (folder / "report.html").read_text(), {line["path"]: line for line in lines})


@pytest.mark.parametrize("label", sorted(made_corpus.TEXTS.keys() - UNSURE))
def test_made_document_gets_its_name(evaluated: Evaluated, label: str) -> None:
    (line,) = [line for path, line in evaluated.lines.items() if Path(path).stem == label]
    assert line["prediction"] == label.replace("_", " ")


def test_nearly_all_made_documents_get_their_names(evaluated: Evaluated) -> None:
    answered = [line for line in evaluated.lines.values() if "prediction" in line]
    right = sum(line["prediction"] == line["label"].replace("_", " ") for line in answered)
    assert len(answered) == 25
    assert right >= 24


def test_scores_are_ranked_and_sum_to_one(evaluated: Evaluated) -> None:
    line = evaluated.lines["invoice.pdf"]
    scores = list(line["scores"].values())
    assert len(scores) == 25
    assert scores == sorted(scores, reverse=True)
    assert sum(scores) == pytest.approx(1, abs=1e-4)
    assert line["confidence"] == scores[0]


def test_document_that_cannot_be_read_is_named_everywhere(evaluated: Evaluated) -> None:
    assert "1 documents could not be read" in evaluated.shown.stdout
    assert "broken.pdf (invoice): " in evaluated.shown.stdout
    assert evaluated.lines["broken.pdf"]["error"]
    assert "broken.pdf" in evaluated.report


def test_report_is_one_file_without_outside_links(evaluated: Evaluated) -> None:
    assert evaluated.report.count("<svg") == 4
    for outside in ("http:", "https:", "src=", "href=", "@import", "url("):
        assert outside not in evaluated.report


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("path,kind\na.pdf,invoice\n", "has no column 'label'"),
        ("path,label\na.pdf,invoice\n", "'a.pdf' is not a file"),
        ("path,label\n", "0 labels"),
    ],
)
def test_wrong_manifest_is_exit_code_2_and_a_sentence(tmp_path: Path, text: str, said: str) -> None:
    manifest = tmp_path / "manifest.csv"
    manifest.write_text(text)
    refused = evaluate(manifest)
    assert refused.returncode == 2
    assert said in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("arguments", [("--ways", "ten"), ("--no-such-option",), ("--bundle", "a", "--url", "b")])
def test_wrong_option_is_exit_code_2(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert evaluate(tmp_path / "manifest.csv", *arguments).returncode == 2


def test_missing_libraries_are_told(tmp_path: Path) -> None:
    without = "import sys; sys.modules['torch'] = None; from docfleet.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", without, "evaluate", str(tmp_path / "manifest.csv")]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == 2
    assert refused.stderr == "docfleet evaluate: not installed: torch; run: pip install 'docfleet[worker]'\n"
