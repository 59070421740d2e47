"""Prepares what the services share, once per version: `python -m docfleet.migrate`.

Creates the tables that are missing (schemas/sql), the topics (schemas/topics.py) and, on a GCS-protocol
server other than Google's, the bucket; gives docfleet.jobs more partitions when it has fewer than it is to
have. May run again at any time, and in several places at once. The bucket of a real cloud belongs to whoever
owns the project, so it is never created there.
"""

import logging
import sys
from dataclasses import replace
from typing import Final

import psycopg
from confluent_kafka import KafkaException
from pydantic import Field

from docfleet.kafka import client_config
from docfleet.postgres import MigrationChanged, migrate
from docfleet.service import EXIT_WRONG_SETTINGS
from docfleet.settings import DatabaseSettings, InvalidSettings, KafkaSettings, ObjectSettings
from docfleet.stack.faults import StartFailed
from docfleet.stack.gcs_server import create_bucket
from docfleet.stack.kafka_server import create_topics, raise_partitions
from docfleet.telemetry import log_to_stderr
from schemas.topics import JOBS, TOPICS

logger = logging.getLogger(__name__)

_BUCKET_SECONDS: Final = 30.0


class MigrateSettings(KafkaSettings, DatabaseSettings, ObjectSettings):
    """Where the tables, the topics and the bucket are."""

    jobs_partitions: int = Field(
        JOBS.partitions,
        ge=1,
        le=10_000,
        description="Partitions of docfleet.jobs: at least as many as workers may run. May grow, never shrinks.",
    )


def prepare(settings: MigrateSettings) -> None:
    """Create what is missing. Blocks.

    Raises:
        psycopg.Error, KafkaException, StartFailed, OSError: that server is away or refuses.
        MigrationChanged: a migration that was applied before has another text now.

    """
    applied = migrate(settings.database_url.get_secret_value())
    logger.info("tables are up to date", extra={"action": "migrate_tables", "applied": applied})
    jobs = replace(JOBS, partitions=settings.jobs_partitions)
    create_topics(client_config(settings), [jobs, *(topic for topic in TOPICS if topic is not JOBS)])
    raise_partitions(client_config(settings), jobs)
    logger.info("topics are there", extra={"action": "create_topics", "topics": [topic.name for topic in TOPICS]})
    if settings.storage_emulator_host:
        create_bucket(settings.storage_emulator_host, settings.bucket, within_seconds=_BUCKET_SECONDS)
        logger.info("the bucket is there", extra={"action": "create_bucket", "bucket": settings.bucket})


def main() -> int:
    """Return the exit code: 0 done, 1 a server is away or refuses, 2 the settings are wrong."""
    try:
        settings = MigrateSettings.from_environment()
    except InvalidSettings as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_WRONG_SETTINGS
    log_to_stderr("migrate", settings.log_level)
    try:
        prepare(settings)
    except (psycopg.Error, KafkaException, StartFailed, MigrationChanged, OSError) as error:
        logger.error("not prepared: %s", error, extra={"action": "migrate_failed"})  # noqa: TRY400  # says it all
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
