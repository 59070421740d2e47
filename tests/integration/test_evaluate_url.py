"""`docfleet evaluate --url`: what it asks of a system that speaks the contract, and what it makes of the answers."""

import asyncio
import json
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web

KINDS = ("invoice", "bank_statement", "menu", "passport")
#: The system knows a kind by these names; the second synonym of a menu is beyond it.
KNOWN = {"bank statement": "bank_statement", "bill": "invoice", "carte": "menu"} | {kind: kind for kind in KINDS}


@dataclass
class System:
    """Knows a document's kind by its file's name, a category's by a table, and counts who asks for what."""

    url: str = ""
    asked: Counter[tuple[str, bool]] = field(default_factory=Counter)  #: (file, whether none_of_these was asked)
    jobs: dict[str, dict] = field(default_factory=dict)

    async def post(self, request: web.Request) -> web.Response:
        form = await request.post()
        names = [told["name"] if isinstance(told, dict) else told for told in json.loads(str(form["categories"]))]
        file = form["pdf_file"].filename
        kind = file.rpartition("-")[0]
        is_none_asked = form.get("none_of_these") == "true"
        self.asked[file, is_none_asked] += 1
        right = [name for name in names if KNOWN.get(name) == kind]
        odds = {name: 8.0 if name in right else 1.0 + names.index(name) / 100 for name in names}
        scores = {name: value / sum(odds.values()) for name, value in odds.items()}
        if is_none_asked:
            none = 0.1 if right else 0.9
            scores = {name: score * (1 - none) for name, score in scores.items()} | {"none_of_these": none}
        job_id = str(uuid.uuid4())
        best = max(scores, key=lambda name: scores[name])
        result = {"success": True, "classification": best, "scores": scores, "model": "made@1"}
        self.jobs[job_id] = {"job_id": job_id, "status": "completed", "error": None, "result": result}
        return web.json_response({"job_id": job_id, "status": "processing"}, status=202)

    async def get(self, request: web.Request) -> web.Response:
        return web.json_response(self.jobs[request.match_info["job"]])


@pytest.fixture
async def system() -> AsyncIterator[System]:
    made = System()
    app = web.Application()
    app.router.add_post("/classify", made.post)
    app.router.add_get("/classify/{job}", made.get)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    paths = [f"{kind}-{number}.pdf" for kind in KINDS for number in range(3)]
    for path in paths:
        (tmp_path / path).write_bytes(b"%PDF-1.7")
    rows = ["path,label", *(f"{path},{path.rpartition('-')[0]}" for path in paths)]
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    (tmp_path / "synonyms.csv").write_text("label,synonym\ninvoice,bill\nmenu,carte\nmenu,fare\nletter,note\n")
    return tmp_path / "manifest.csv"


async def evaluate(system: System, manifest: Path, *options: str) -> str:
    command = [sys.executable, "-m", "docfleet.cli", "evaluate", str(manifest), "--url", system.url, "--api-key", "k"]
    process = await asyncio.create_subprocess_exec(
        *command, *options, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    stdout, stderr = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0, stderr.decode()
    return stdout.decode()


async def test_auroc_is_of_the_systems_own_none_of_these_on_a_sample(system: System, manifest: Path) -> None:
    shown = await evaluate(system, manifest, "--none-sample", "4")
    assert "none-of-these AUROC (4 documents, ten names with the true one and without): 1.000" in shown
    with_none = Counter(file for (file, is_none_asked) in system.asked.elements() if is_none_asked)
    assert list(with_none.values()) == [2, 2, 2, 2]
    assert {file.rpartition("-")[0] for file in with_none} == set(KINDS), "the sample is spread over the manifest"
    assert sum(system.asked.values()) == 12 + 2 * 4


async def test_nobody_is_asked_for_none_of_these_when_the_sample_is_empty(system: System, manifest: Path) -> None:
    shown = await evaluate(system, manifest, "--none-sample", "0")
    assert "AUROC" not in shown
    assert sum(system.asked.values()) == 12


async def test_each_set_of_synonyms_stands_beside_the_plain_names(system: System, manifest: Path) -> None:
    folder = manifest.parent
    answers, report = folder / "answers.jsonl", folder / "report.html"
    options = ("--synonyms", folder / "synonyms.csv", "--json", answers, "--report", report, "--none-sample", "0")
    shown = await evaluate(system, manifest, *map(str, options))
    table = shown[shown.index("called by") :].split("\n\n")[0].splitlines()[1:]
    told = {line[:18].strip(): line[18:].split()[0] for line in table}
    assert told == {"plain names": "1.000", "first synonyms": "1.000", "second synonyms": "0.750"}
    assert "  'fare' for 'menu': 0 of 3 right, not 3" in shown
    assert "'bill' for 'invoice'" not in shown
    assert sum(system.asked.values()) == 12 * 3
    lines = [json.loads(line) for line in answers.read_text().splitlines()]
    (menu,) = [line for line in lines if line["path"] == "menu-0.pdf"]
    assert [told["name"] for told in menu["synonyms"]] == ["carte", "fare"]
    assert menu["synonyms"][0]["prediction"] == "carte"
    assert menu["synonyms"][1]["prediction"] != "fare"
    assert "fare" in report.read_text()


async def test_synonyms_that_two_labels_share_are_refused(system: System, manifest: Path) -> None:
    (manifest.parent / "synonyms.csv").write_text("label,synonym\ninvoice,bill\nmenu,Bill\n")
    with pytest.raises(AssertionError, match="have the same name"):
        await evaluate(system, manifest, "--synonyms", str(manifest.parent / "synonyms.csv"))
    assert not system.asked
