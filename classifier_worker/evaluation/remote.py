"""Answers of a running system: every document posted with all names, its result waited for."""

import asyncio

import numpy as np

from classifier_worker.evaluation.answers import Answer, Answers, FitLists, OnDone, highest
from classifier_worker.evaluation.manifest import Manifest
from docfleet.commands.posting import Answer as Job
from docfleet.commands.posting import Form, Refused, System, follow, post
from docfleet.stopping import Deadline

_AT_A_TIME = 8
_WAIT_SECONDS = 30.0


def ask(manifest: Manifest, system: System, *, document_seconds: float, on_done: OnDone) -> Answers:
    """Return the system's answers; a document that fails or is refused has its error."""
    return asyncio.run(_ask(manifest, system, document_seconds, on_done))


async def _ask(manifest: Manifest, system: System, document_seconds: float, on_done: OnDone) -> Answers:
    slots = asyncio.Semaphore(_AT_A_TIME)
    lists = FitLists.of(manifest)
    models: set[str] = set()
    done = 0
    async with system.open_session() as session:

        async def one(at: int) -> Answer:
            nonlocal done
            async with slots:
                deadline = Deadline(document_seconds)
                try:
                    form = Form(manifest.rows[at].file, manifest.names)
                    job_id = await post(session, system.url, form, deadline)
                    url = f"{system.url}/classify/{job_id}"
                    told = [job async for job in follow(session, url, deadline, wait_seconds=_WAIT_SECONDS)]
                    job = told[-1]
                    answer = _answer(job, manifest, lists, at)
                    models.add(str((job.get("result") or {}).get("model", "")))
                except (Refused, OSError) as error:
                    answer = Answer(None, error=str(error))
            done += 1
            on_done(done)
            return answer

        answers = await asyncio.gather(*(one(at) for at in range(len(manifest.rows))))
    return Answers(", ".join(sorted(models - {""})) or "no model answered", tuple(answers))


def _answer(job: Job, manifest: Manifest, lists: FitLists | None, at: int) -> Answer:
    result = job.get("result")
    if not result:
        return Answer(None, error=f"{job.get('error') or job.get('status')} ({job.get('error_code')})")
    scores = np.array([float(result["scores"][name]) for name in manifest.names])
    return Answer(scores, highest(scores, lists, at) if lists else None)
