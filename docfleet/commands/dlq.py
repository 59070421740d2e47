"""`docfleet dlq`: look at dead letters, publish those again that may be, and drop what was worked off."""

import json
import os
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import psycopg
from confluent_kafka import KafkaException

from docfleet.commands.servers import NotNamed, address_of
from docfleet.commands.table import printable
from docfleet.dead_letters import Address, DeadLetter, DeadLetters, Extent
from docfleet.kafka import Publisher
from docfleet.replay import JobNow, Refused, decide, is_up_to_date, jobs_now
from docfleet.settings import InvalidSettings, KafkaSettings
from docfleet.stopping import Deadline
from schemas import codec, topics

_TABLE: Final = "{:>10}  {:20}  {:20}  {:>7}  {:20}  {}"
_DELIVERED_SECONDS: Final = 30.0
#: How long replay waits for a table of jobs that is a moment behind the events.
_CATCH_UP_SECONDS: Final = 10.0

Work = Callable[[DeadLetters, KafkaSettings], int]


class _Refusal(Exception):
    """What was asked for is not done; the message says why."""


def show_all(data_dir: Path | None, *, as_json: bool, with_dropped: bool) -> int:
    """Print a line for each message and return the exit code."""

    def work(letters: DeadLetters, _settings: KafkaSettings) -> int:
        if not as_json:
            print(_TABLE.format("MESSAGE", "SINCE", "ERROR CODE", "ATTEMPT", "TENANT", "JOB"))
        for letter in letters.read(letters.extents(), with_dropped=with_dropped):
            print(json.dumps(_summary(letter), ensure_ascii=False) if as_json else _row(letter))
        return 0

    return _with_topic(data_dir, work)


def show(data_dir: Path | None, address: Address) -> int:
    """Print one message in full, as JSON, and return the exit code."""

    def work(letters: DeadLetters, _settings: KafkaSettings) -> int:
        letter = _found(letters, address, letters.extents())
        for line in json.dumps(_in_full(letter), ensure_ascii=False, indent=2).splitlines():
            print(printable(line))
        return 0

    return _with_topic(data_dir, work)


def replay(data_dir: Path | None, addresses: Sequence[Address], *, is_all: bool) -> int:
    """Publish messages of jobs that have not ended again; return 0 when that was done for each that was named."""

    def work(letters: DeadLetters, settings: KafkaSettings) -> int:
        extents = letters.extents()
        chosen = list(letters.read(extents)) if is_all else [_found(letters, one, extents) for one in addresses]
        jobs = _states(data_dir, letters, {letter.job_id for letter in chosen if letter.job_id is not None})
        publisher = Publisher(settings, source="dlq", message_timeout_seconds=_DELIVERED_SECONDS)
        try:
            outcomes = [_replay_one(publisher, letter, jobs) for letter in chosen]
        finally:
            publisher.close(Deadline(1.0))
        left = [outcome for outcome in outcomes if outcome is not None]
        print(f"{len(outcomes) - len(left)} published again, {len(left)} left alone")
        return 1 if any(not (is_all and refused.has_ended) for refused in left) else 0

    return _with_topic(data_dir, work)


def drop(data_dir: Path | None, addresses: Sequence[Address], *, is_all: bool, is_sure: bool) -> int:
    """Take messages off the list, each with all before it in its partition, and return the exit code."""

    def work(letters: DeadLetters, _settings: KafkaSettings) -> int:
        extents = letters.extents()
        for address in addresses:
            _found(letters, address, extents)
        named = {number: extent.end for number, extent in extents.items()} if is_all else {}
        for address in addresses:
            named[address.partition] = max(named.get(address.partition, 0), address.offset + 1)
        ends = {number: end for number, end in named.items() if end > extents[number].undropped}
        count = sum(end - extents[number].undropped for number, end in ends.items())
        if not count:
            return _say(0, "nothing to drop")
        for number, end in sorted(ends.items()):
            print(f"partition {number}: {end - extents[number].undropped} messages, up to and with {number}:{end - 1}")
        if not (is_sure or _confirmed(count)):
            return _say(1, "nothing was dropped")
        letters.drop(ends)
        print(f"{count} dropped; `docfleet dlq list --all` shows them for as long as the topic keeps them")
        return 0

    return _with_topic(data_dir, work)


def _with_topic(data_dir: Path | None, work: Work) -> int:
    try:
        brokers = address_of("KAFKA_BOOTSTRAP_SERVERS", entry="kafka_bootstrap_servers", data_dir=data_dir)
        settings = KafkaSettings.from_mapping(os.environ | {"KAFKA_BOOTSTRAP_SERVERS": brokers})
        letters = DeadLetters(settings)
    except (NotNamed, InvalidSettings) as fault:
        return _say(2, str(fault))
    try:
        return work(letters, settings)
    except NotNamed as fault:
        return _say(2, str(fault))
    except _Refusal as fault:
        return _say(1, str(fault))
    except KafkaException as fault:
        return _say(1, f"Kafka does not answer: {fault.args[0].str()}")
    except psycopg.Error as fault:
        return _say(1, f"the database does not answer: {' '.join(str(fault).split())}")
    finally:
        letters.close()


def _found(letters: DeadLetters, address: Address, extents: dict[int, Extent]) -> DeadLetter:
    extent = extents.get(address.partition)
    letter = letters.one(address, extent) if extent is not None else None
    if letter is None:
        raise _Refusal(f"{topics.DLQ.name} has no message {address}")
    return letter


def _states(data_dir: Path | None, letters: DeadLetters, job_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, JobNow]:
    """Return the jobs' present states, from a table that has heard of everything said so far."""
    is_of_environment = data_dir is None and "KAFKA_BOOTSTRAP_SERVERS" in os.environ
    if is_of_environment and not os.environ.get("DATABASE_URL"):
        raise NotNamed("replay asks the table of jobs which jobs have ended: set DATABASE_URL")
    dsn = address_of("DATABASE_URL", entry="postgres_dsn", data_dir=data_dir)
    ends = letters.ends_of(topics.EVENTS)
    deadline = Deadline(_CATCH_UP_SECONDS)
    while not is_up_to_date(dsn, topics.EVENTS, ends):
        if deadline.is_over:
            raise _Refusal("status_service is behind, so nobody knows which jobs have ended; try again later")
        time.sleep(0.2)
    return jobs_now(dsn, job_ids)


def _replay_one(publisher: Publisher, letter: DeadLetter, jobs: dict[uuid.UUID, JobNow]) -> Refused | None:
    """Publish a message again, wait for its delivery, and say so; return why where that must not be."""
    job = jobs.get(letter.job_id) if letter.job_id is not None else None
    decision = decide(letter, job, now=datetime.now(UTC))
    if isinstance(decision, Refused):
        print(f"{letter.address}: left alone: {printable(decision.why)}")
        return decision
    publisher.publish(topics.JOBS, decision, traceparent=letter.header("traceparent")).result(2 * _DELIVERED_SECONDS)
    print(f"{letter.address}: job {decision.job_id} is published again as attempt {decision.attempt}")
    return None


def _confirmed(count: int) -> bool:
    if not sys.stdin.isatty():
        raise NotNamed("nobody can be asked whether that is meant: say --yes")
    return input(f"Drop {count} messages? [y/N] ").strip().lower() in {"y", "yes"}


def _summary(letter: DeadLetter) -> dict[str, Any]:
    event = letter.event
    return {
        "message": str(letter.address),
        "partition": letter.address.partition,
        "offset": letter.address.offset,
        "since": codec.utc(letter.at),
        "job_id": None if letter.job_id is None else str(letter.job_id),
        "tenant_id": None if event is None else event.tenant_id,
        "attempt": None if event is None else event.attempt,
        "error_code": letter.header(topics.DLQ_ERROR_CODE_HEADER),
        "error": letter.header(topics.DLQ_ERROR_HEADER),
        "is_dropped": letter.is_dropped,
    }


def _in_full(letter: DeadLetter) -> dict[str, Any]:
    event = letter.event
    fields = {} if event is None else {name: getattr(event, name) for name in event.__dataclass_fields__}
    return _summary(letter) | {
        "key": None if letter.key is None else letter.key.decode(errors="replace"),
        "headers": {name: value.decode(errors="replace") for name, value in letter.headers},
        "event_type": None if event is None else codec.full_name(type(event)),
        "event": None if event is None else {name: _plain(value) for name, value in fields.items()},
        "fault": letter.fault,
        "value_hex": None if event is not None or letter.value is None else letter.value.hex(),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return codec.utc(value)
    if isinstance(value, uuid.UUID):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def _row(letter: DeadLetter) -> str:
    event = letter.event
    cells = (
        str(letter.address),
        letter.at.strftime("%Y-%m-%d %H:%M:%SZ"),
        letter.header(topics.DLQ_ERROR_CODE_HEADER) or "",
        "" if event is None else event.attempt,
        "" if event is None else event.tenant_id,
        letter.job_id or "",
    )
    return _TABLE.format(*(printable(str(cell)) for cell in cells)).rstrip()


def _say(exit_code: int, text: str) -> int:
    print(f"docfleet dlq: {text}", file=sys.stderr)
    return exit_code
