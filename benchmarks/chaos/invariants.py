"""What must be true of every run, whatever was done to the system: counts of offences by invariant, with job ids.

Pure functions of what the clients saw, what was done, and what was left behind. The names I1 to I8 are those of the
operations guide.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from benchmarks.chaos.evidence import Left, Said, Watched, object_of
from benchmarks.chaos.faults import Done
from benchmarks.chaos.system import MAX_JOBS_IN_FLIGHT, SESSION_SECONDS, STOP_DEADLINE_SECONDS
from benchmarks.chaos.traffic import Offence, Seen
from schemas import events
from schemas.lifecycle import TERMINAL, JobState
from schemas.topics import DLQ, EVENTS, JOBS, RETRY

#: Every invariant, in the order of the report.
INVARIANTS: Final = {
    "I1": "every 202 reaches exactly one terminal state",
    "I2": "no job without its object",
    "I3": "a terminal state never changes, and no two terminal events conflict",
    "I4": "committed offsets are at or below the lowest unfinished one",
    "I5": "jobs in flight within their bound",
    "I6": "two runs of one job give the same result",
    "I7": "no job is shown to another tenant",
    "I8": "SIGTERM ends a service within its deadline",
    "404": "no 404 after a 202",
    "backwards": "no state goes backwards in any poll",
    "HTTP": "every answer is one of the contract's",
}

#: What a stop may take over its deadline on a machine that does other things too.
EXIT_SLACK_SECONDS: Final = 5.0
#: From a worker's SIGKILL to its jobs running elsewhere: the group's session, and this.
ELSEWHERE_SLACK_SECONDS: Final = 5.0
_SCORE_TOLERANCE: Final = 1e-4
_ENDS: Final = (events.ClassificationCompleted, events.ClassificationFailed, events.ClassificationCancelled)


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that is known of a run."""

    seen: Seen
    done: Done
    watched: Watched
    left: Left


class Elsewhere(NamedTuple):
    """The last of a killed worker's jobs to run elsewhere."""

    seconds: float  #: since the SIGKILL
    job_id: str


@dataclass(frozen=True, slots=True)
class Figures:
    """What is measured besides."""

    jobs: int
    unanswered_jobs: int  #: rows of the run whose client never got the 202
    orphans: int  #: objects of no job
    failed: Counter[str]  #: jobs by error code
    starts_per_job: float  #: of the jobs that were not replayed
    repeated_starts: int  #: of these: starts beyond the first of each
    repeated_after: Counter[str]  #: these by the first fault between the start before and the repetition
    most_starts: int
    repeated_ends: int  #: terminal events beyond the first of each job; harmless where they say the same
    elsewhere: list[Elsewhere]  #: of each undisturbed SIGKILL of a worker with jobs


def offences_of(evidence: Evidence) -> list[Offence]:
    """Return everything that should not be."""
    seen, left = evidence.seen, evidence.left
    return [
        *seen.offences,
        *_not_ended(seen, left),
        *_without_object(left),
        *_conflicting(left),
        *_committed_too_far(evidence.watched, left),
        *_above_bound(evidence.watched),
        *_unequal_runs(left),
        *_slow_exits(evidence.done),
    ]


def figures_of(evidence: Evidence) -> Figures:
    """Return the run's figures."""
    left, done = evidence.left, evidence.done
    told = [said for said in left.of(EVENTS.name) if not said.is_replayed and said.job_id in left.rows]
    starts = Counter(said.job_id for said in told if isinstance(said.event, events.ClassificationStarted))
    ends = Counter(said.job_id for said in told if isinstance(said.event, _ENDS))
    own = {job_id: count for job_id, count in starts.items() if job_id not in done.replayed_jobs}
    failed = Counter(row["error_code"] for row in left.rows.values() if row["status"] == JobState.FAILED)
    return Figures(
        jobs=len(evidence.seen.jobs),
        unanswered_jobs=len(left.rows.keys() - evidence.seen.jobs.keys()),
        orphans=len(left.orphans),
        failed=failed,
        starts_per_job=sum(own.values()) / max(1, len(own)),
        repeated_starts=sum(own.values()) - len(own),
        repeated_after=Counter(_causes(told, done)),
        most_starts=max(starts.values(), default=0),
        repeated_ends=sum(ends.values()) - len(ends),
        elsewhere=sorted(_elsewhere(told, done)),
    )


def _not_ended(seen: Seen, left: Left) -> Iterator[Offence]:
    for job_id in seen.unended:
        yield Offence("I1", job_id, f"its client has seen {seen.jobs[job_id].status} last")
    for job_id in sorted(seen.jobs.keys() - left.rows.keys()):
        yield Offence("I1", job_id, "there is no row of it")
    ended = {said.job_id for said in left.of(EVENTS.name) if isinstance(said.event, _ENDS)}
    for job_id, row in left.rows.items():
        if JobState(row["status"]) not in TERMINAL and job_id not in seen.unended:
            yield Offence("I1", job_id, f"its row says {row['status']}, attempt {row['attempt']}")
        if JobState(row["status"]) in TERMINAL and job_id not in ended:
            yield Offence("I1", job_id, "no event says its end")


def _without_object(left: Left) -> Iterator[Offence]:
    for job_id in left.rows:
        if object_of(job_id) not in left.objects:
            yield Offence("I2", job_id, "its object is not there")


def _conflicting(left: Left) -> Iterator[Offence]:
    for job_id, ends in _ends(left).items():
        kinds = {_kind(event) for event in ends}
        if len(kinds) > 1:
            yield Offence("I3", job_id, f"terminal events say {', '.join(sorted(kinds))}")
        status = left.rows[job_id]["status"]
        if status != _STATE[type(ends[0])]:
            yield Offence("I3", job_id, f"its row says {status}, its first terminal event {_kind(ends[0])}")


_STATE: Final[dict[type[events.Event], JobState]] = {
    events.ClassificationCompleted: JobState.COMPLETED,
    events.ClassificationFailed: JobState.FAILED,
    events.ClassificationCancelled: JobState.CANCELLED,
}


def _kind(event: events.Event) -> str:
    code = f" {event.error_code}" if isinstance(event, events.ClassificationFailed) else ""
    return type(event).__name__ + code


def _committed_too_far(watched: Watched, left: Left) -> Iterator[Offence]:
    """Find messages below a committed offset that nothing had ended or handed on by then."""
    settled: dict[str, float] = {}  # when a job ended or went on elsewhere for the first time
    for said in left.said:
        is_end = said.topic == EVENTS.name and isinstance(said.event, _ENDS)
        if is_end or said.topic in {RETRY.name, DLQ.name}:
            settled[said.job_id] = min(said.at, settled.get(said.job_id, said.at))
    first_committed: dict[tuple[str, int], list[tuple[int, float]]] = defaultdict(list)  # offset, first seen at
    for commit in watched.commits:
        for place, offset in commit.offsets.items():
            known = first_committed[place]
            if not known or offset > known[-1][0]:
                known.append((offset, commit.at))
    for said in left.said:
        if said.topic not in {JOBS.name, RETRY.name} or said.job_id not in left.rows:
            continue
        committed_at = next(
            (at for offset, at in first_committed[said.topic, said.partition] if offset > said.offset), None
        )
        if committed_at is not None and settled.get(said.job_id, float("inf")) > committed_at:
            yield Offence(
                "I4", said.job_id, f"{said.topic}/{said.partition}@{said.offset} was committed before its end"
            )


def _above_bound(watched: Watched) -> Iterator[Offence]:
    if watched.most_in_flight > MAX_JOBS_IN_FLIGHT:
        yield Offence("I5", "", f"{watched.most_in_flight:g} jobs in flight, at most {MAX_JOBS_IN_FLIGHT} allowed")


def _unequal_runs(left: Left) -> Iterator[Offence]:
    for job_id, ends in _ends(left).items():
        results = [json.loads(end.result) for end in ends if isinstance(end, events.ClassificationCompleted)]
        if any(not _is_same(results[0], other) for other in results[1:]):
            yield Offence("I6", job_id, f"results {[(one['classification'], one['confidence']) for one in results]}")


def _is_same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    if one["classification"] != other["classification"] or one["scores"].keys() != other["scores"].keys():
        return False
    return all(abs(score - other["scores"][name]) <= _SCORE_TOLERANCE for name, score in one["scores"].items())


def _slow_exits(done: Done) -> Iterator[Offence]:
    for service, seconds in done.exits:
        if seconds > STOP_DEADLINE_SECONDS + EXIT_SLACK_SECONDS:
            yield Offence("I8", "", f"{service} took {seconds:.1f} s to stop")


def _elsewhere(told: Iterable[Said], done: Done) -> Iterator[Elsewhere]:
    """Return, for each SIGKILL of a worker with nothing else going on, which of its jobs ran again last."""
    lives: dict[str, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    for said in told:
        starts, ends = lives[said.job_id]
        (starts if isinstance(said.event, events.ClassificationStarted) else ends).append(said.at)
    for killed_at in done.worker_kills:
        again = []
        for job_id, (starts, ends) in lives.items():
            before = [at for at in starts if at < killed_at]
            after = [at for at in starts if at > killed_at]
            if before and after and not any(at < killed_at for at in ends):
                again.append(Elsewhere(min(after) - killed_at, job_id))
        last = max(again, default=Elsewhere(0.0, ""))
        window = (killed_at - SESSION_SECONDS, killed_at + last.seconds)
        if again and not any(begin < window[1] and end > window[0] for begin, end in done.disturbed):
            yield last


def _causes(told: Iterable[Said], done: Done) -> Iterator[str]:
    """Return, for each repeated start of a job that was not replayed, the first fault since the start before."""
    last_start: dict[str, float] = {}
    for said in told:
        if isinstance(said.event, events.ClassificationStarted) and said.job_id not in done.replayed_jobs:
            before = last_start.get(said.job_id)
            last_start[said.job_id] = said.at
            if before is not None:
                faults = [what for at, what in done.said if before - 1.0 < at < said.at]
                yield " ".join(faults[0].split()[:2]) if faults else "none"


def _ends(left: Left) -> dict[str, list[events.Event]]:
    """Return the terminal events of each job of the run, those that were said again by this program left out."""
    ends: dict[str, list[events.Event]] = defaultdict(list)
    for said in left.of(EVENTS.name):
        if isinstance(said.event, _ENDS) and not said.is_replayed and said.job_id in left.rows:
            ends[said.job_id].append(said.event)
    return ends
