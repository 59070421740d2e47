"""The documents say what the code says: tables, names, links."""

import dataclasses
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from docfleet import metrics
from docfleet.setting_names import KNOWN_VARIABLES
from docfleet.settings import PREFIX
from schemas import topics
from schemas.errors import ErrorCode
from schemas.events import EVENT_TYPES

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
#: `[text](target)`, but no address of another host.
LINK = re.compile(r"\[[^\]]*\]\((?!https?:|mailto:)(?P<target>[^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def page_id(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read(name: str) -> str:
    return (ROOT / "docs" / name).read_text("utf-8")


def first_cells(page: str) -> set[str]:
    """Return what stands as code in the first column of a page's tables."""
    return set(re.findall(r"^\| `([^`]+)`", page, re.MULTILINE))


def test_generated_tables_are_up_to_date():
    command = [sys.executable, "docs/generate.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_generated_table_has_a_page(generator):
    pages = "".join(path.read_text("utf-8") for path in (ROOT / "docs").glob("*.md"))
    assert [name for name in generator.TABLES if f"<!-- begin {name} -->\n" not in pages] == []


def test_every_setting_of_every_service_has_a_line_and_a_meaning(generator):
    documented = first_cells(read("settings.md"))
    for service, settings in generator.SERVICES.items():
        assert set(settings.variables().values()) <= documented, service
        assert all(field.description for field in settings.model_fields.values()), service


def test_known_variables_are_exactly_those_of_the_services(generator):
    variables = {variable for settings in generator.SERVICES.values() for variable in settings.variables().values()}
    assert {variable for variable in variables if variable.startswith(PREFIX)} == KNOWN_VARIABLES


def test_every_metric_has_a_line():
    own = {entry.name for section in metrics.CATALOGUE for entry in section.entries}
    assert own
    assert own == first_cells(read("metrics.md"))


def test_metrics_are_named_in_base_units_and_have_a_constant():
    constants = [metric for metric in vars(metrics).values() if hasattr(metric, "_labelnames")]
    entries = [entry for section in metrics.CATALOGUE for entry in section.entries]
    assert [entry.metric for entry in entries] == constants
    assert {entry.name for entry in entries if re.search(r"_(ms|millis|kb|mb|minutes)(_|$)", entry.name)} == set()
    assert {entry.name for entry in entries if not entry.name.startswith("docfleet_")} == set()


def test_every_error_code_has_a_line():
    assert first_cells(read("errors.md")) == {str(code) for code in ErrorCode}


def test_every_event_and_each_of_its_fields_has_a_line():
    parts = re.split(r"^## ", read("events.md"), flags=re.MULTILINE)
    sections = {part.partition("\n")[0]: part for part in parts}
    for event_type in EVENT_TYPES:
        assert first_cells(sections[event_type.__name__]) == {field.name for field in dataclasses.fields(event_type)}


def test_every_topic_has_a_line():
    assert {topic.name for topic in topics.TOPICS} <= first_cells(read("topics.md"))


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_relative_links_lead_somewhere(page):
    for link in LINK.finditer(FENCE.sub("", page.read_text("utf-8"))):
        name, _, anchor = link["target"].partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link["target"]
        assert target.is_relative_to(ROOT), link["target"]
        if anchor:
            assert anchor in anchors(target), link["target"]


def anchors(page: Path) -> set[str]:
    """Return the anchors that a forge gives to a page's headings."""
    headings = HEADING.findall(FENCE.sub("", page.read_text("utf-8")))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_settings_named_in_prose_exist(page, generator):
    known = KNOWN_VARIABLES | {"DOCFLEET_URL", "DOCFLEET_API_KEY"}
    named = set(re.findall(r"\bDOCFLEET_[A-Z_]+[A-Z]\b", page.read_text("utf-8")))
    assert named - known == set()


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_no_page_names_a_path_of_somebodys_machine(page):
    found = re.findall(r"(?<![\w.])/(?:home|root|Users|work|opt|tmp)/\S*", page.read_text("utf-8"))
    assert found == []


def test_every_folder_is_in_the_readme():
    folders = {path.name for path in ROOT.iterdir() if (path / "__init__.py").exists()} | {"deploy", "docs"}
    readme = (ROOT / "README.md").read_text("utf-8")
    assert {name for name in folders if f"{name}/" not in readme} == set()


def test_every_test_that_holds_a_delivery_rule_exists(repository: Path) -> None:
    named = set(re.findall(r"`(test_\w+)`", (repository / "docs" / "delivery-rules.md").read_text()))
    written = "\n".join(path.read_text() for path in (repository / "tests").rglob("test_*.py"))
    assert named
    assert sorted(name for name in named if f"def {name}(" not in written) == []
