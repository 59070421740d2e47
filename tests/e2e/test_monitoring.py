"""A real Prometheus, as `docfleet up --monitoring` starts it, watches a stack that does jobs.

Every query of every dashboard answers, every series that a rule asks for is there, exemplars lead to jobs, and no label
says what must not be in one.
"""

import json
import re
import shutil
import time
from typing import Any

import aiohttp
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from docfleet import metrics
from docfleet.metric_section import Entry, Open
from tests import documents
from tests.e2e.running import RunningStack
from tests.monitoring import generator
from tests.waiting import eventually

pytestmark = pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not installed")

#: Words that a job brings along; none may come out in a label.
CATEGORIES = ["category-of-nobody", "invoice"]
SCRAPED_SECONDS = 90.0  # a rate needs two scrapes, and a recorded one an evaluation after them
ENTRIES = {entry.name: entry for section in metrics.CATALOGUE for entry in section.entries}


class Prometheus:
    """The server's HTTP API."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def ask(self, path: str, **parameters: str) -> Any:
        async with (
            aiohttp.ClientSession(self.url) as session,
            session.get(f"/api/v1/{path}", params=parameters) as answer,
        ):
            body = await answer.json()
            assert body["status"] == "success", (parameters, body)
            return body["data"]

    async def empty(self, queries: set[str]) -> set[str]:
        """Return those of the queries that have no data."""
        return {query for query in queries if not (await self.ask("query", query=query))["result"]}


@pytest.fixture
def prometheus(stack: RunningStack) -> Prometheus:
    (url,) = [process["http_url"] for process in stack.description["processes"] if process["name"] == "prometheus"]
    return Prometheus(url)


@pytest.fixture
async def jobs(client: aiohttp.ClientSession) -> list[str]:
    """Return the ids of a job that reads text, one that needs OCR, and one that fails."""
    posted = []
    for document in (documents.pdf(pages=2), documents.scanned_pdf(), b"%PDF-1.7\nnothing else"):
        form = aiohttp.FormData({"categories": json.dumps(CATEGORIES)})
        form.add_field("pdf_file", document, filename="document")
        async with client.post("/classify", data=form) as answer:
            posted.append(str((await answer.json())["job_id"]))

    async def have_ended() -> bool:
        states = []
        for job_id in posted:
            async with client.get(f"/classify/{job_id}") as answer:
                states.append((await answer.json())["status"])
        return states == ["completed", "completed", "failed"]

    await eventually(have_ended, within=180, poll_seconds=0.2)
    return posted


def dashboard_queries() -> dict[str, str]:
    """Return each dashboard's queries, as Grafana would send them; comparisons with 0, which hide lines, left away."""
    found = {}
    for path in generator.BOARDS:
        board = yaml.safe_load(path.read_text())
        for row in board["rows"]:
            for panel in row["panels"]:
                for _legend, query in generator.queries(panel):
                    asked = generator.narrowed(query.removesuffix(" > 0"))
                    asked = asked.replace("$__rate_interval", "5m").replace("$namespace", ".*")
                    found[asked] = f"{board['title']}: {panel['title']}"
    return found


def rules() -> list[dict[str, Any]]:
    files = [yaml.safe_load(path.read_text()) for path in generator.RULES]
    return [rule for file in files for group in file["groups"] for rule in group["rules"]]


def series_of(expression: str) -> set[str]:
    return {found["name"] + (found["matchers"] or "") for found in generator.SELECTOR.finditer(expression)}


async def test_every_query_of_every_dashboard_and_every_recording_rule_has_data(
    prometheus: Prometheus, jobs: list[str]
) -> None:
    asked = dashboard_queries()
    queries = set(asked) | {rule["record"] for rule in rules() if "record" in rule}
    assert len(queries) > 100

    async def all_answer() -> bool:
        without_data = await prometheus.empty(queries)
        assert not without_data, {query: asked.get(query, "recorded") for query in without_data}
        return True

    await eventually(all_answer, within=SCRAPED_SECONDS, poll_seconds=1.0)


async def test_every_series_that_a_rule_asks_for_is_there(prometheus: Prometheus, jobs: list[str]) -> None:
    """An alert that does not fire has no data either way; but what it watches must exist."""
    asked = {f"count({series})" for rule in rules() for series in series_of(rule["expr"])}
    assert len(asked) > 20

    async def all_are_there() -> bool:
        missing = await prometheus.empty(asked)
        assert not missing
        return True

    await eventually(all_are_there, within=SCRAPED_SECONDS, poll_seconds=1.0)


async def test_rules_are_loaded_and_every_service_is_scraped(prometheus: Prometheus, stack: RunningStack) -> None:
    async def all_is_well() -> bool:
        targets = (await prometheus.ask("targets"))["activeTargets"]
        assert {target["labels"]["instance"]: target["health"] for target in targets} == dict.fromkeys(
            ("producer_api", "status_service", "classifier_worker-0"), "up"
        )
        loaded = [rule for group in (await prometheus.ask("rules"))["groups"] for rule in group["rules"]]
        assert {rule["health"] for rule in loaded} == {"ok"}
        assert {rule["name"] for rule in loaded} == {rule.get("alert") or rule["record"] for rule in rules()}
        return True

    await eventually(all_is_well, within=SCRAPED_SECONDS, poll_seconds=1.0)


async def test_exemplars_lead_from_a_bucket_to_a_job(prometheus: Prometheus, jobs: list[str]) -> None:
    async def of(metric: str) -> set[str]:
        now = time.time()
        found = await prometheus.ask("query_exemplars", query=metric, start=str(now - 600), end=str(now + 60))
        return {exemplar["labels"]["job_id"] for series in found for exemplar in series["exemplars"]}

    for metric in ("docfleet_job_seconds_bucket", 'docfleet_stage_seconds_bucket{stage="ocr"}'):
        await eventually(lambda metric=metric: of_jobs(of(metric), jobs), within=SCRAPED_SECONDS, poll_seconds=1.0)


async def of_jobs(exemplars: Any, jobs: list[str]) -> set[str]:
    return set(await exemplars) & set(jobs)


async def test_labels_are_few_and_name_no_job_tenant_key_or_category(stack: RunningStack, jobs: list[str]) -> None:
    before = await told(stack)
    for name, text in before.items():
        secrets = [*jobs, *CATEGORIES, stack.api_key, "local"]
        assert [word for word in secrets if re.search(rf"[^a-z]{re.escape(word)}[^a-z]", text)] == [], name
        for family in text_string_to_metric_families(text):
            if family.name.startswith("docfleet_"):
                check_labels(ENTRIES.get(family.name) or ENTRIES[f"{family.name}_total"], family.samples)


async def told(stack: RunningStack) -> dict[str, str]:
    """Return what each service's /metrics says."""
    texts = {}
    async with aiohttp.ClientSession() as session:
        for process in stack.description["processes"]:
            if process["metrics_url"] and process["name"] != "prometheus":
                async with session.get(process["metrics_url"]) as answer:
                    texts[process["name"]] = await answer.text()
    return texts


def check_labels(entry: Entry, samples: list[Any]) -> None:
    for sample in samples:
        labels = {name: text for name, text in sample.labels.items() if name != "le"}
        assert labels.keys() == entry.labels.keys()
        for name, values in entry.labels.items():
            is_allowed = values.pattern.fullmatch(labels[name]) if isinstance(values, Open) else labels[name] in values
            assert is_allowed, (sample.name, name, labels[name])
