"""Which fault comes when: a pure function of the seed, whatever the machine does meanwhile."""

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """What is done."""

    KILL = "kill"  #: SIGKILL
    TERMINATE = "terminate"  #: SIGTERM, for PostgreSQL its fast shutdown
    STOP = "stop"  #: SIGSTOP, and SIGCONT after a while
    SLOW = "slow"  #: stopped nine tenths of the time
    JOIN = "join"  #: one more worker, which leaves again
    REPLAY = "replay"  #: old messages once more


READER: Final = "reader"
NOBODY: Final = "-"

#: How often each of these is chosen, and what may be done to it.
_SERVERS: Final = (Kind.KILL, Kind.KILL, Kind.TERMINATE, Kind.STOP)
_SERVICES: Final = (Kind.KILL, Kind.KILL, Kind.TERMINATE, Kind.STOP, Kind.SLOW)
_VICTIMS: Final[tuple[tuple[str, int, tuple[Kind, ...]], ...]] = (
    ("kafka", 2, _SERVERS),
    ("postgres", 2, _SERVERS),
    ("gcs", 2, _SERVERS),
    ("producer_api", 3, _SERVICES),
    ("status_service", 3, _SERVICES),
    ("classifier_worker-0", 3, _SERVICES),
    ("classifier_worker-1", 3, _SERVICES),
    (READER, 2, (Kind.KILL,)),
    (NOBODY, 4, (Kind.JOIN, Kind.REPLAY)),
)
KILLABLE: Final = tuple(victim for victim, _, kinds in _VICTIMS if Kind.KILL in kinds)
#: Longest pause of a server: longer ones are outages, which a kill with its backoff is too.
_SERVER_PAUSE_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault, this long after the storm's begin."""

    at_seconds: float
    kind: Kind
    victim: str
    for_seconds: float
    choice: float  #: 0..1, for what only the running system knows: which reader, which message

    def __str__(self) -> str:
        lasting = f" for {self.for_seconds:.1f} s" if self.kind in {Kind.STOP, Kind.SLOW, Kind.JOIN} else ""
        return f"{self.kind} {self.victim}{lasting}"


def kills(seed: int, victims: Sequence[str], *, every_seconds: float) -> Iterator[Fault]:
    """Return SIGKILLs of these processes alone, without end."""
    rng = random.Random(seed)
    for number in itertools.count(1):
        yield Fault(number * every_seconds, Kind.KILL, rng.choice(victims), 0.0, rng.random())


def storm(seed: int, *, every_seconds: float, session_seconds: float) -> Iterator[Fault]:
    """Return faults without end; pauses of services are up to 3 s longer than their group session."""
    rng = random.Random(seed)
    at_seconds = 0.0
    while True:
        at_seconds += every_seconds
        victim, _, kinds = rng.choices(_VICTIMS, [weight for _, weight, _ in _VICTIMS])[0]
        kind = rng.choice(kinds)
        longest = session_seconds + 3.0 if kinds is not _SERVERS else _SERVER_PAUSE_SECONDS
        yield Fault(at_seconds, kind, victim, rng.uniform(0.5, longest), rng.random())
