"""A backlog of one tenant's jobs in the table of jobs, as producer_api writes jobs that it holds back.

Posting 100,000 jobs would take longer than what is measured with them. They share one document; from the relay on
they are worked off like any other.
"""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psycopg

from benchmarks.chaos import system
from benchmarks.running import Fleet
from docfleet import keys
from docfleet.objects import ObjectStore
from docfleet.settings import ObjectSettings

TENANT: Final = "backlog"
_OBJECT: Final = "backlog/document"
_PUT: Final = """
insert into jobs (job_id, tenant_id, key_id, status, progress, created_at, last_seen_at, object_name, media_type,
                  size_bytes, categories)
select gen_random_uuid(), name, key_id, 'queued', 'Waiting', now(), now(), %(object_name)s, 'application/pdf',
       %(size_bytes)s, %(categories)s
from api_keys, generate_series(1, %(jobs)s)
where name = %(tenant)s
"""
_LEFT: Final = "select count(*) from jobs where tenant_id = %s and status in ('queued', 'processing')"


@contextmanager
def fleet(settings: Mapping[str, str]) -> Iterator[Fleet]:
    """Run a stack of one worker with these settings beside those of the chaos runs; posts are another tenant's."""
    with (
        tempfile.TemporaryDirectory(prefix="docfleet-benchmark-") as folder,
        system.running(Path(folder) / "data", workers=1, settings=settings) as running,
    ):
        stack = running.stack
        yield Fleet(stack["url"], _new_tenant(stack["postgres_dsn"], "single"), stack)


def _new_tenant(dsn: str, name: str) -> str:
    """Make a tenant without limits of rate and return its key."""
    key = keys.new_key()
    keys.add(dsn, key, name=name, quota_limit=1_000_000, rate_per_minute=None)
    return key


def put(fleet: Fleet, jobs: int, document: bytes, categories: list[str]) -> None:
    """Put so many jobs of one document into the table of a stack, as those of `TENANT`."""
    stack = fleet.stack
    _new_tenant(stack["postgres_dsn"], TENANT)
    settings = ObjectSettings.from_mapping(
        {"STORAGE_EMULATOR_HOST": stack["gcs_endpoint"], "DOCFLEET_BUCKET": stack["gcs_bucket"]}
    )
    store = ObjectStore(settings, connections=1)
    store.put(_OBJECT, document, media_type="application/pdf")
    store.close()
    values = {"tenant": TENANT, "jobs": jobs, "object_name": _OBJECT, "size_bytes": len(document)}
    with psycopg.connect(stack["postgres_dsn"]) as connection:
        connection.execute(_PUT, values | {"categories": categories})


def left(fleet: Fleet) -> int:
    """Return how many of the backlog's jobs have not ended."""
    with psycopg.connect(fleet.stack["postgres_dsn"]) as connection:
        row = connection.execute(_LEFT, [TENANT]).fetchone()
    assert row is not None
    return int(row[0])
