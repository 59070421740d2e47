"""Where `docfleet top` looks: at the services' own `/metrics`, or at a Prometheus that scrapes them."""

import asyncio
import json
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from docfleet.commands.servers import DEFAULT_DATA_DIR
from docfleet.commands.top_snapshot import STARTED, WANTED, Look, Process, Sample
from docfleet.stack.data_dir import read_stack
from docfleet.stack.prometheus_server import PROMETHEUS

#: One service that hangs must not keep the others off the screen for longer.
_ANSWER_SECONDS: Final = 2.0
_QUERY_SECONDS: Final = 10.0
#: How far back rates look: long enough to be calm, short enough to be news.
_WINDOW_SECONDS: Final = 30.0
#: The same where somebody else scrapes, by default once a minute.
_SCRAPED_WINDOW_SECONDS: Final = 120.0
_QUERY: Final = '{{__name__=~"{names}"{matcher}}}'
_RESTARTS: Final = "changes({started}{{{matcher}}}[1h])"


class NothingThere(Exception):
    """Nothing can be looked at; the message says why, and what to do."""


class Source(Protocol):
    """A fleet to look at."""

    @property
    def title(self) -> str:
        """What is looked at, for people."""
        ...

    async def look(self) -> tuple[Look, Look | None]:
        """Return what is said now, and a while ago if that is known; NothingThere when nobody says anything."""
        ...


@dataclass(frozen=True, slots=True)
class Target:
    """A process's name and the address of its metrics."""

    name: str
    url: str
    restarts: int | None = None


class Scraped:
    """The services themselves; remembers what they said for as long as rates look back."""

    def __init__(self, title: str, targets: Callable[[], Sequence[Target]]) -> None:
        self.title = title
        self._targets = targets
        self._looks: deque[Look] = deque()

    async def look(self) -> tuple[Look, Look | None]:
        """Return what is said now, and the oldest look that still counts."""
        targets = self._targets()
        timeout = aiohttp.ClientTimeout(total=_ANSWER_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout, headers={"Accept": "text/plain"}) as session:
            processes = await asyncio.gather(*(_ask(session, target) for target in targets))
        now = Look(time.time(), processes)
        if not any(process.is_up for process in processes):
            raise NothingThere(f"none of them answers: {', '.join(target.url for target in targets)}")
        while self._looks and self._looks[0].at < now.at - _WINDOW_SECONDS:
            self._looks.popleft()
        before = self._looks[0] if self._looks else None
        self._looks.append(now)
        return now, before


def local_stack(data_dir: Path | None) -> Scraped:
    """Return the services of the stack that runs on a data dir."""
    folder = data_dir or DEFAULT_DATA_DIR

    def targets() -> Sequence[Target]:  # anew each time: a process that died has another address
        stack = read_stack(folder) or {"processes": []}
        found = [
            Target(process["name"], process["metrics_url"], process.get("restarts"))
            for process in stack["processes"]
            if process["metrics_url"] and process["name"] != PROMETHEUS
        ]
        if not found:
            raise NothingThere(f"no stack runs on {folder}; name --data-dir, --metrics URL or --prometheus URL")
        return found

    return Scraped(str(folder), targets)


def services(urls: Sequence[str]) -> Scraped:
    """Return services by the addresses of their metrics."""
    targets = [Target(urlsplit(url).netloc or url, url) for url in urls]
    return Scraped(f"{len(targets)} services", lambda: targets)


class Prometheus:
    """A Prometheus server, asked for its newest samples and for those of a while ago."""

    def __init__(self, url: str, namespace: str | None) -> None:
        parts = urlsplit(url)
        self.title = parts.netloc.rpartition("@")[2] + (f" {namespace}" if namespace else "")
        self._url = f"{url.rstrip('/')}/api/v1/query"
        self._matcher = f"namespace={json.dumps(namespace)}" if namespace else ""

    async def look(self) -> tuple[Look, Look | None]:
        """Return the newest samples of each process, and those before."""
        names = "|".join(sorted(WANTED))
        query = _QUERY.format(names=names, matcher=f",{self._matcher}" if self._matcher else "")
        now = time.time()
        timeout = aiohttp.ClientTimeout(total=_QUERY_SECONDS)
        try:
            async with aiohttp.ClientSession(timeout=timeout) as session:
                new, old, restarts = await asyncio.gather(
                    self._ask(session, query, now),
                    self._ask(session, query, now - _SCRAPED_WINDOW_SECONDS),
                    self._ask(session, _RESTARTS.format(started=STARTED, matcher=self._matcher), now),
                )
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError) as error:
            said = str(error) or type(error).__name__
            raise NothingThere(f"Prometheus at {self.title} does not answer as it should: {said}") from error
        counts = {_name_of(one["metric"]): int(float(one["value"][1])) for one in restarts}
        processes = _processes(new, counts)
        if not processes:
            raise NothingThere(f"Prometheus at {self.title} has no metrics of docfleet")
        return Look(now, processes), Look(now - _SCRAPED_WINDOW_SECONDS, _processes(old, counts))

    async def _ask(self, session: aiohttp.ClientSession, query: str, at: float) -> list[Any]:
        async with session.get(self._url, params={"query": query, "time": f"{at:.3f}"}) as answer:
            answer.raise_for_status()
            result: list[Any] = (await answer.json())["data"]["result"]
            return result


async def _ask(session: aiohttp.ClientSession, target: Target) -> Process:
    try:
        async with session.get(target.url) as answer:
            answer.raise_for_status()
            samples = samples_in(await answer.text())
    except (aiohttp.ClientError, TimeoutError, ValueError):
        samples = []
    return Process(name=target.name, samples=samples, restarts=target.restarts)


def samples_in(text: str) -> list[Sample]:
    """Return what is wanted of Prometheus's text format; ValueError when it is none."""
    return [
        Sample(sample.name, sample.labels, sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name in WANTED
    ]


def _processes(found: Sequence[Any], restarts: dict[str, int]) -> list[Process]:
    """Return what an instant vector says of each process of docfleet."""
    samples: dict[str, list[Sample]] = {}
    for one in found:
        labels = dict(one["metric"])
        sample = Sample(labels.pop("__name__"), labels, float(one["value"][1]))
        samples.setdefault(_name_of(labels), []).append(sample)
    return [
        Process(name=name, samples=mine, restarts=restarts.get(name))
        for name, mine in sorted(samples.items())
        if any(sample.name.startswith("docfleet_") for sample in mine)  # others tell when they started, too
    ]


def _name_of(labels: dict[str, str]) -> str:
    return labels.get("pod") or labels.get("instance") or "-"
