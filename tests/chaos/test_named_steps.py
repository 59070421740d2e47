"""A process that dies by SIGKILL at a named step of a job loses nothing: the job ends, once.

Every step has a process of its own that dies there (docfleet/fault_points.py). They all work at the same time, beside
one healthy process of each service, which takes over what the dead leave behind.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from uuid import uuid4

import pytest

from docfleet.fault_points import STEPS
from docfleet.stack import gcs_server
from tests import servers
from tests.chaos.scene import Scene, Service, scene
from tests.waiting import eventually_sync

PRODUCER_STEPS = [
    *("before_object_put", "after_object_put", "before_admit", "after_admit", "before_produce", "after_produce"),
    "after_mark",
]
WORKER_STEPS = ["after_start", "before_result", "after_result", "before_offset_commit", "after_offset_commit"]
RETRY_STEP = "after_retry"
STATUS_STEPS = ["before_projection_commit", "after_projection_commit"]


@dataclass(frozen=True)
class Fallen:
    """The processes that died at their steps, and the jobs that were posted meanwhile."""

    scene: Scene
    services: dict[str, Service]
    jobs: dict[str, str]  #: by Idempotency-Key


@pytest.fixture(scope="module")
def opened(
    kafka: str, topics: None, postgres_server_dsn: str, gcs_endpoint: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    dsn = servers.new_database(postgres_server_dsn)
    gcs = servers.Gcs(gcs_endpoint, f"test-{uuid4().hex}")
    gcs_server.create_bucket(gcs.endpoint, gcs.bucket, within_seconds=10)
    with scene(kafka, dsn, gcs, tmp_path_factory.mktemp("scene")) as running:
        yield running
    servers.drop_database(postgres_server_dsn, dsn)


@pytest.fixture(scope="module")
def fallen(opened: Scene) -> Fallen:
    """Start everybody, post to each doomed producer and then to the healthy one until all the doomed are dead."""
    healthy = [opened.start(module) for module in ("producer_api", "status_service", "classifier_worker")]
    # their relays keep still, so that each dies over its own post
    doomed = {step: opened.doomed("producer_api", step, relay_interval_seconds="600") for step in PRODUCER_STEPS}
    doomed |= {step: opened.doomed("status_service", step) for step in STATUS_STEPS}
    doomed |= {step: opened.doomed("classifier_worker", step) for step in WORKER_STEPS}
    # the model of this one never answers in time, which is a passing failure
    doomed[RETRY_STEP] = opened.doomed(
        "classifier_worker", RETRY_STEP, simulated_model_seconds="0.5", model_seconds="0.01"
    )
    producer = healthy[0]
    eventually_sync(lambda: all(service.is_ready for service in healthy), within=180)
    jobs = {}
    for step in PRODUCER_STEPS:
        eventually_sync(lambda step=step: doomed[step].is_ready, within=180)  # type: ignore[misc]
        opened.post(doomed[step], step)
        jobs[step] = str(eventually_sync(lambda step=step: opened.post(producer, step)))  # type: ignore[misc]

    def all_dead() -> bool:
        jobs[f"more {len(jobs)}"] = str(opened.post(producer, f"more {len(jobs)}"))
        return all(service.process.poll() is not None for service in doomed.values())

    eventually_sync(all_dead, within=180, poll_seconds=0.05)
    return Fallen(opened, doomed, jobs)


def test_every_step_is_tested() -> None:
    assert {*PRODUCER_STEPS, *WORKER_STEPS, RETRY_STEP, *STATUS_STEPS} == set(STEPS)


@pytest.mark.parametrize("step", STEPS)
def test_process_died_at_its_step(fallen: Fallen, step: str) -> None:
    assert fallen.services[step].died_by_itself()


@pytest.mark.parametrize("step", PRODUCER_STEPS)
def test_post_to_a_producer_that_died_becomes_one_job_which_ends(fallen: Fallen, step: str) -> None:
    job_id = fallen.jobs[step]
    assert fallen.scene.ended({job_id}) == {job_id: "completed"}


def test_every_job_ends_once_whichever_worker_or_projector_died_over_it(fallen: Fallen) -> None:
    job_ids = set(fallen.jobs.values())
    assert set(fallen.scene.ended(job_ids).values()) == {"completed"}
    said = fallen.scene.ends_said()
    assert {tuple(said[job_id]) for job_id in job_ids} == {("ClassificationCompleted",)}


def test_posts_that_were_repeated_made_no_second_job(fallen: Fallen) -> None:
    assert set(fallen.scene.rows()) == set(fallen.jobs.values())
