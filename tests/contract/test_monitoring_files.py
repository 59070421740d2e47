"""deploy/monitoring fits the code and the docs: metrics that exist, alerts with runbooks and tests, panels by name."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from docfleet import metrics
from tests.monitoring import FOLDER, generator

ROOT = Path(__file__).parents[2]
GROUPS = [group for path in generator.RULES for group in yaml.safe_load(path.read_text())["groups"]]
RULES = [rule for group in GROUPS for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
BOARDS = {board["uid"]: board for board in (yaml.safe_load(path.read_text()) for path in generator.BOARDS)}
PANELS = {
    (board["title"].removeprefix("docfleet / ").removesuffix(" and GPU"), panel["title"]): panel
    for board in BOARDS.values()
    for row in board["rows"]
    for panel in row["panels"]
}
TESTS = sorted(FOLDER.glob("tests/*.yml"))
QUERIES = [query for panel in PANELS.values() for _, query in generator.queries(panel)]
needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="prometheus is not installed")


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


def test_generated_files_are_up_to_date():
    done = run(sys.executable, "deploy/monitoring/generate.py", "--check")
    assert (done.returncode, done.stderr) == (0, "")


@needs_promtool
@pytest.mark.parametrize(
    "command",
    [
        ("check", "rules", *(str(path) for path in generator.RULES)),
        ("check", "config", "deploy/compose/prometheus.yml"),
        ("test", "rules", *(str(path) for path in TESTS)),
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_promtool_finds_no_fault(command):
    done = run("promtool", *command)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ALERTS)
def test_alert_says_what_is_wrong_and_where_to_read_on(name):
    alert = ALERTS[name]
    told = alert["annotations"]
    assert set(told) == {"summary", "description", "runbook_url", "dashboard"}
    assert alert["labels"]["severity"] in {"page", "ticket"}
    assert told["dashboard"] in BOARDS
    page, _, anchor = told["runbook_url"].partition("#")
    assert anchor == name.lower()
    (section,) = re.findall(rf"^### {name}\n\n(\w+)\. ", (ROOT / page).read_text("utf-8"), re.MULTILINE)
    assert section == alert["labels"]["severity"]


def test_every_alert_is_shown_to_fire_and_to_be_silent():
    firing, silent = set(), set()
    for test in (test for path in TESTS for test in yaml.safe_load(path.read_text())["tests"]):
        for case in test.get("alert_rule_test", []):
            (firing if case["exp_alerts"] else silent).add(case["alertname"])
        for case in test.get("promql_expr_test", []):
            for sample in case["exp_samples"]:
                firing |= set(re.findall(r'alertname="(\w+)"', sample["labels"]))
    assert firing == silent == set(ALERTS)


def test_runbooks_are_for_alerts_that_exist():
    sections = set(re.findall(r"^### (\w+)$", (ROOT / "docs" / "runbooks.md").read_text("utf-8"), re.MULTILINE))
    assert sections == set(ALERTS)


def test_panels_that_the_docs_send_to_exist():
    named = set()
    for page in ("operations.md", "runbooks.md"):
        text = re.sub(r"\s+", " ", (ROOT / "docs" / page).read_text("utf-8"))
        named |= set(re.findall(r"\*\*(\w+) › ([^*]+)\*\*", text))
    assert len(named) > 20
    assert named - {("Dashboard", "Panel")} - set(PANELS) == set()


def names_in(expression: str) -> set[str]:
    names = {found["name"] for found in generator.SELECTOR.finditer(expression)}
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in names if name.startswith("docfleet")}


def test_queries_and_rules_ask_for_what_exists():
    known = {entry.name for section in metrics.CATALOGUE for entry in section.entries}
    known |= {rule["record"] for rule in RULES if "record" in rule}
    asked = {name for text in (*QUERIES, *(rule["expr"] for rule in RULES)) for name in names_in(text)}
    assert asked - known == set()


def test_every_metric_is_on_a_dashboard_or_in_a_rule():
    asked = {name for text in (*QUERIES, *(rule["expr"] for rule in RULES)) for name in names_in(text)}
    assert {entry.name for section in metrics.CATALOGUE for entry in section.entries} - asked == set()


def test_titles_of_panels_are_unique_in_a_dashboard_and_every_query_minds_the_namespace():
    assert len(PANELS) == sum(len(row["panels"]) for board in BOARDS.values() for row in board["rows"])
    for path in FOLDER.glob("dashboards/*.json"):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", []):
                selectors = list(generator.SELECTOR.finditer(target["expr"]))
                assert selectors
                assert all('namespace=~"$namespace"' in found["matchers"] for found in selectors), target["expr"]


def test_kustomization_holds_every_dashboard_and_the_rules():
    kustomization = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    listed = {file for made in kustomization["configMapGenerator"] for file in made["files"]}
    assert listed == {f"dashboards/{path.name}" for path in FOLDER.glob("dashboards/*.json")}
    assert kustomization["resources"] == ["prometheus-rule.yaml"]
    assert kustomization["generatorOptions"]["labels"] == {"grafana_dashboard": "1"}
    assert yaml.safe_load((FOLDER / "prometheus-rule.yaml").read_text())["spec"]["groups"] == GROUPS


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl")
def test_kustomize_builds_it():
    done = run("kubectl", "kustomize", str(FOLDER))
    assert done.returncode == 0, done.stderr
    kinds = [document["kind"] for document in yaml.safe_load_all(done.stdout)]
    assert sorted(kinds) == ["ConfigMap"] * len(BOARDS) + ["PrometheusRule"]


def test_compose_uses_the_same_rules_and_dashboards():
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    assert "./deploy/monitoring/rules:/etc/prometheus/rules:ro" in services["prometheus"]["volumes"]
    assert "--enable-feature=exemplar-storage" in services["prometheus"]["command"]
    provider = yaml.safe_load((FOLDER / "grafana" / "dashboards.yaml").read_text())["providers"][0]
    assert f"./deploy/monitoring/dashboards:{provider['options']['path']}:ro" in services["grafana"]["volumes"]
