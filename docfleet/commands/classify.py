"""`docfleet classify`: several documents at a time through a running system, the answers in the files' order."""

import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp

from docfleet.commands import table
from docfleet.commands.posting import Answer, Form, Refused, System, follow, post
from docfleet.stack.data_dir import read_stack
from docfleet.stopping import Deadline

_AT_A_TIME: Final = 8
#: How long the system may hold an answer back: short where somebody watches the progress.
_WATCHED_SECONDS: Final = 1.0
_UNWATCHED_SECONDS: Final = 30.0


class UsageError(Exception):
    """What was asked for makes no sense; the message says why."""


@dataclass(frozen=True, slots=True)
class Order:
    """What to classify, and by whom."""

    files: Sequence[Path]
    categories: Sequence[str]
    system: System
    options: Mapping[str, str]  #: further form fields
    timeout_seconds: float


def run(order: Order, *, as_json: bool, with_pages: bool) -> int:
    """Classify, print the answers, and return the exit code: 0 all completed, 1 some failed."""
    for file in order.files:
        if not file.is_file():
            raise UsageError(f"{file} is not a file")
        if not os.access(file, os.R_OK):
            raise UsageError(f"{file} cannot be read")
    progress = _Progress(len(order.files))
    answers = asyncio.run(_classify_all(order, progress, as_json=as_json))
    progress.clear()
    if not as_json:
        rows = [row for file, job in answers for row in table.rows_of(str(file), job, with_pages=with_pages)]
        print(table.rendered(rows))
    return 0 if all(job["status"] == "completed" for _, job in answers) else 1


def find_system(url: str | None, api_key: str | None, data_dir: Path) -> System:
    """Return the system that the options, the environment or the local stack name, in this order.

    Raises:
        UsageError: nobody names one, or there is no key for it.

    """
    local = read_stack(data_dir) or {}
    url = url or os.environ.get("DOCFLEET_URL") or local.get("url")
    if not url:
        raise UsageError(f"no system: run `docfleet up` (no stack ever ran on {data_dir}), or give --url")
    url = url.rstrip("/")
    api_key = (
        api_key or os.environ.get("DOCFLEET_API_KEY") or (local.get("api_key") if url == local.get("url") else None)
    )
    if not api_key:
        raise UsageError(f"no API key for {url}: give --api-key or set DOCFLEET_API_KEY")
    return System(url, api_key)


def options(none_of_these: float | None, *, is_evidence_wanted: bool) -> dict[str, str]:
    """Return the form fields that ask for this, none for what is not asked."""
    asked = {} if none_of_these is None else {"none_of_these": str(none_of_these)}
    return asked | ({"evidence": "true"} if is_evidence_wanted else {})


def read_categories(file: Path) -> list[str]:
    """Return the categories of a file: a JSON array as `POST /classify` takes it, else one name a line."""
    try:
        text = file.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read: {error}") from error
    if not text.lstrip().startswith("["):
        names = [line.strip() for line in text.splitlines() if line.strip()]
    else:
        try:
            names = [name["name"] if isinstance(name, dict) else str(name) for name in json.loads(text)]
        except (ValueError, KeyError) as error:
            raise UsageError(f"{file} is not a JSON array of names: {error}") from error
    if not names:
        raise UsageError(f"{file} names no category")
    return names


async def _classify_all(order: Order, progress: "_Progress", *, as_json: bool) -> list[tuple[Path, Answer]]:
    slots = asyncio.Semaphore(_AT_A_TIME)
    answers = []
    async with order.system.open_session() as session:
        tasks = [asyncio.create_task(_classify(order, file, session, slots, progress)) for file in order.files]
        for file, task in zip(order.files, tasks, strict=True):
            job = await task
            answers.append((file, job))
            if as_json:
                progress.clear()
                print(json.dumps({"file": str(file), **job}, ensure_ascii=False), flush=True)
    return answers


async def _classify(
    order: Order, file: Path, session: aiohttp.ClientSession, slots: asyncio.Semaphore, progress: "_Progress"
) -> Answer:
    async with slots:
        deadline = Deadline(order.timeout_seconds)
        job: Answer = {"job_id": None, "status": "failed", "error": None, "error_code": None, "result": None}
        try:
            progress.show(file, "uploading")
            job["job_id"] = await post(session, order.system.url, Form(file, order.categories, order.options), deadline)
            job_url = f"{order.system.url}/classify/{job['job_id']}"
            async for job in follow(session, job_url, deadline, wait_seconds=progress.wait_seconds):
                progress.show(file, job["progress"])
        except Refused as refusal:
            job |= {"status": "failed", "error": str(refusal), "error_code": refusal.body.get("error_code")}
        except OSError as error:
            job |= {"status": "failed", "error": f"the file cannot be read: {error.strerror or error}"}
        progress.finished(file)
        return job


class _Progress:
    """One line on a terminal that says how far the files are; nothing where nobody watches."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._finished = 0
        self._doing: dict[Path, str] = {}
        self._is_watched = sys.stderr.isatty()
        self.wait_seconds = _WATCHED_SECONDS if self._is_watched else _UNWATCHED_SECONDS

    def show(self, file: Path, doing: Any) -> None:
        """Show what happens to a file."""
        self._doing[file] = str(doing)
        self._draw()

    def finished(self, file: Path) -> None:
        """Count a file."""
        self._doing.pop(file, None)
        self._finished += 1
        self._draw()

    def clear(self) -> None:
        """Make room for an answer."""
        if self._is_watched:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def _draw(self) -> None:
        if not self._is_watched:
            return
        doing = ", ".join(f"{file.name}: {what}" for file, what in self._doing.items())
        width = os.get_terminal_size(sys.stderr.fileno()).columns
        text = table.printable(f"{self._finished}/{self._total}  {doing}")
        sys.stderr.write(f"\r\x1b[K{text[: max(0, width - 1)]}")
        sys.stderr.flush()
