"""Migrations: each once, whoever tries; an applied one never changes."""

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from docfleet.postgres import MigrationChanged, migrate
from tests import servers


@pytest.fixture
def empty(postgres_server_dsn: str):
    dsn = servers.new_database(postgres_server_dsn, template="template1")
    yield dsn
    servers.drop_database(postgres_server_dsn, dsn)


def test_processes_that_migrate_together_apply_each_file_once(empty: str):
    with ThreadPoolExecutor(4) as pool:
        applied = [name for names in pool.map(migrate, [empty] * 4) for name in names]
    assert applied
    assert len(applied) == len(set(applied))
    assert migrate(empty) == []


def test_file_that_changed_after_it_was_applied_is_refused(postgres: str):
    with psycopg.connect(postgres) as connection:
        connection.execute("update migrations set sha256 = 'another'")
    with pytest.raises(MigrationChanged, match=r"0001_pre_jobs\.sql"):
        migrate(postgres)
