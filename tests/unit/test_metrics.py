"""A service tells its own metrics and no others, from 0 on, and its exemplars where they are asked for."""

import re
import subprocess
import sys

from aiohttp import ClientSession

from docfleet import http, metrics
from docfleet.telemetry import Health

OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
SCRAPES = 'docfleet_http_requests_total{method="GET",route="/metrics",status="200"}'
#: What a fresh process of a service tells.
TOLD = "import sys; from prometheus_client import generate_latest; from docfleet import metrics; metrics.expose({!r}); "
TOLD += "sys.stdout.write(generate_latest().decode())"


def told_by(program: str) -> set[str]:
    shown = subprocess.run([sys.executable, "-c", TOLD.format(program)], capture_output=True, text=True, check=True)
    return {line.rpartition(" ")[0] for line in shown.stdout.splitlines() if line.startswith("docfleet_")}


def test_service_tells_its_own_metrics_only() -> None:
    for program in (metrics.PRODUCER_API, metrics.CLASSIFIER_WORKER, metrics.STATUS_SERVICE):
        told = {series.partition("{")[0] for series in told_by(program)}
        for section in metrics.CATALOGUE:
            for entry in section.entries:
                is_told = bool({entry.name, f"{entry.name}_bucket"} & told)
                may_tell = program in section.services and not entry.is_late
                is_told_at_once = not entry.labels or entry.first or entry.metric is metrics.BUILD_INFO
                assert is_told == bool(may_tell and is_told_at_once), (program, entry.name)


def test_failures_that_never_happened_are_0_and_not_absent() -> None:
    worker = told_by(metrics.CLASSIFIER_WORKER)
    assert 'docfleet_jobs_dead_lettered_total{error_code="ATTEMPTS_EXHAUSTED"}' in worker
    assert 'docfleet_jobs_finished_total{error_code="MODEL_FAILED",outcome="failed"}' in worker
    assert not [series for series in worker if 'error_code="MODEL_FAILED",outcome="completed"' in series]
    assert not [series for series in worker if "_created" in series]


def test_names_of_jobs_and_tenants_are_no_labels() -> None:
    labels = {name for section in metrics.CATALOGUE for entry in section.entries for name in entry.labels}
    assert labels & {"job_id", "tenant", "tenant_id", "key", "key_id", "category", "categories", "name"} == set()


async def test_exemplars_are_told_where_openmetrics_is_asked_for() -> None:
    app = http.application(metrics.STATUS_SERVICE, Health())
    metrics.expose(metrics.CLASSIFIER_WORKER)
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    exemplar = metrics.exemplar("the-job", f"00-{trace_id}-b7ad6b7169203331-01")
    metrics.JOB_SECONDS.labels("completed").observe(0.2, exemplar)
    runner, port = await http.listen(app, "127.0.0.1", 0)
    try:
        async with ClientSession(f"http://127.0.0.1:{port}") as client:
            async with client.get("/metrics", headers={"Accept": OPENMETRICS}) as answer:
                assert answer.content_type == "application/openmetrics-text"
                shown = await answer.text()
            (before,) = re.findall(rf"^{re.escape(SCRAPES)} (\S+)$", shown, re.MULTILINE)
            assert f'# {{job_id="the-job",trace_id="{trace_id}"}} 0.2' in shown
            assert shown.endswith("# EOF\n")
            async with client.get("/metrics") as answer:
                assert answer.content_type == "text/plain"
                assert "the-job" not in await answer.text()
            async with client.get("/metrics", headers={"Accept": OPENMETRICS}) as answer:
                shown = await answer.text()
    finally:
        await runner.cleanup()
    assert f"{SCRAPES} {float(before) + 2}" in shown  # the registry is the process's: other tests have counted too
    assert 'docfleet_http_requests_total{method="GET",route="/metrics",status="503"} 0.0' in shown
