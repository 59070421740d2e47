"""Answers of a running system: every document posted with all names and with other lists, its results awaited."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import aiohttp
import numpy as np
from numpy.typing import NDArray

from classifier_worker.evaluation.answers import Answer, Answers, FitLists, OnDone, Probabilities
from classifier_worker.evaluation.manifest import Manifest
from docfleet.commands.posting import Form, Refused, System, follow, post
from docfleet.stopping import Deadline

_AT_A_TIME: Final = 8
_WAIT_SECONDS: Final = 30.0
_NONE: Final = "none_of_these"


@dataclass(frozen=True, slots=True)
class Asked:
    """How a system is asked."""

    document_seconds: float  #: most seconds for each post and its answer
    none_documents: int  #: documents, spread over the manifest, that are asked whether none of ten names fits


def ask(manifest: Manifest, system: System, asked: Asked, *, on_done: OnDone) -> Answers:
    """Return the system's answers; a document that fails or is refused has its error.

    A document is posted once, once more for each set of synonyms, and twice more where it is asked whether none fits.
    """
    return asyncio.run(_ask(manifest, system, asked, on_done))


async def _ask(manifest: Manifest, system: System, asked: Asked, on_done: OnDone) -> Answers:
    slots = asyncio.Semaphore(_AT_A_TIME)
    rows = len(manifest.rows)
    sample = min(asked.none_documents, rows)
    drawn = {number * rows // sample for number in range(sample)}
    done = 0
    async with system.open_session() as session:
        asking = _Asking(manifest, system, session, asked.document_seconds)

        async def one(at: int) -> Answer:
            nonlocal done
            async with slots:
                try:
                    answer = await asking.answer(at, is_none_asked=at in drawn)
                except (Refused, OSError) as error:
                    answer = Answer(None, error=str(error))
            done += 1
            on_done(done)
            return answer

        answers = await asyncio.gather(*(one(at) for at in range(rows)))
    return Answers(", ".join(sorted(asking.models)) or "no model answered", tuple(answers))


class _Asking:
    """One document after another through the system."""

    def __init__(
        self, manifest: Manifest, system: System, session: aiohttp.ClientSession, document_seconds: float
    ) -> None:
        self._manifest = manifest
        self._system = system
        self._session = session
        self._document_seconds = document_seconds
        self._lists = FitLists.of(manifest)
        self.models: set[str] = set()

    async def answer(self, at: int, *, is_none_asked: bool) -> Answer:
        """Return the answer on the document of row `at`; Refused where one of its posts has no result."""
        names = self._manifest.names
        whole = await self._probabilities(at, names)
        others = [await self._probabilities(at, names) for names in self._manifest.synonyms]
        fits = None
        if is_none_asked and self._lists is not None:
            fits = (await self._fit(at, self._lists.present[at]), await self._fit(at, self._lists.absent[at]))
        return Answer(whole, fits, synonyms=tuple(others))

    async def _probabilities(self, at: int, names: Sequence[str]) -> Probabilities:
        scores = await self._scores(at, names, {})
        return np.array([scores[name] for name in names])

    async def _fit(self, at: int, offered: NDArray[np.int64]) -> float:
        names = [self._manifest.names[name] for name in offered]
        return 1.0 - (await self._scores(at, names, {_NONE: "true"}))[_NONE]

    async def _scores(self, at: int, names: Sequence[str], options: dict[str, str]) -> dict[str, float]:
        deadline = Deadline(self._document_seconds)
        form = Form(self._manifest.rows[at].file, names, options)
        job_id = await post(self._session, self._system.url, form, deadline)
        url = f"{self._system.url}/classify/{job_id}"
        told = [job async for job in follow(self._session, url, deadline, wait_seconds=_WAIT_SECONDS)]
        job = told[-1]
        result = job.get("result")
        if not result:
            raise Refused(f"{job.get('error') or job.get('status')} ({job.get('error_code')})")
        self.models.add(str(result.get("model", "")))
        return {str(name): float(score) for name, score in result["scores"].items()}
