"""What producer_api is told by its environment."""

from typing import Self

from pydantic import Field, field_validator, model_validator

from docfleet.settings import DatabaseSettings, KafkaSettings, ObjectSettings
from producer_api.addresses import Allowed

_MIB = 1024 * 1024
_DAY_SECONDS = 24 * 60 * 60


class ProducerSettings(KafkaSettings, DatabaseSettings, ObjectSettings):
    """The settings of producer_api; times in seconds, sizes in bytes."""

    upload_max_bytes: int = Field(500 * _MIB, ge=1, description="Largest document that is accepted, in bytes.")
    upload_memory_bytes: int = Field(
        _MIB,
        ge=64 * 1024,
        le=16 * _MIB,
        description="Documents up to this size are held in memory and stored in one request; larger ones are streamed.",
    )
    uploads_max: int = Field(
        12,
        ge=1,
        le=10_000,
        description="Most POSTs of one process whose document is being streamed; one more gets 503. Each, like each of "
        "DOCFLEET_FETCH_CONCURRENCY downloads, takes up to 16 MiB while a part is sent: (12 + 8) x 16 MiB and 110 MiB "
        "of the process itself are 430 of the 512 MiB in deploy/k8s, which leaves the rest to smaller documents.",
    )
    upload_idle_seconds: float = Field(30.0, gt=0, description="Longest silence of a client in the middle of a POST.")
    upload_total_seconds: float = Field(1800.0, gt=0, description="Most time that one POST's body may take.")
    key_cache_seconds: float = Field(
        3.0, ge=0, le=60, description="How long an API key is remembered: a revoked key works on for at most this long."
    )
    idempotency_lease_seconds: float = Field(
        9.0, gt=0, le=10, description="A request that died frees its Idempotency-Key after at most this long."
    )
    idempotency_keep_seconds: float = Field(
        86400.0, ge=60, description="How long the answer to an Idempotency-Key is kept."
    )
    publish_timeout_seconds: float = Field(
        10.0, gt=0, description="How long an event waits for a broker that is away before the relay takes it over."
    )
    tenant_jobs_in_flight: int = Field(
        200,
        ge=0,
        le=1_000_000,
        description="Most jobs of one tenant in Kafka that have not ended; more wait in Postgres. 0: no such limit.",
    )
    relay_interval_seconds: float = Field(1.0, gt=0, description="Pause between looks for events that did not get out.")
    sweep_interval_seconds: float = Field(
        10.0, gt=0, description="Pause between looks for jobs without a sign of life."
    )
    sweep_after_seconds: float = Field(
        120.0, gt=0, description="A job without a sign of life for this long is published again."
    )
    reap_interval_seconds: float = Field(
        3600.0, gt=0, description="Pause between looks for documents and rows that have been kept for long enough."
    )
    document_keep_seconds: float = Field(
        7.0 * _DAY_SECONDS,
        ge=0,
        description="How long a document is kept after its job has ended; 0 keeps it for ever.",
    )
    job_keep_seconds: float = Field(
        30.0 * _DAY_SECONDS,
        ge=0,
        description="How long a job and its result can be looked up after its end; 0 keeps it for ever.",
    )
    orphan_keep_seconds: float = Field(
        1.0 * _DAY_SECONDS,
        ge=600,
        description="How long a document without a job is kept, such as that of a POST that died half way.",
    )
    max_attempts: int = Field(5, ge=1, description="How often a job is tried before it fails.")
    fetch_concurrency: int = Field(8, ge=1, le=256, description="Most file_url downloads of one process at a time.")
    fetch_attempts: int = Field(4, ge=1, description="Tries to fetch a file_url that does not answer.")
    fetch_backoff_seconds: float = Field(2.0, gt=0, description="Pause before the second try; doubles with each try.")
    fetch_total_seconds: float = Field(600.0, gt=0, description="Most time of one try to fetch a file_url.")
    fetch_idle_seconds: float = Field(20.0, gt=0, description="Longest silence of a file_url's server.")
    fetch_max_redirects: int = Field(5, ge=0, le=20, description="Most redirects that a file_url may take.")
    file_url_allow: str = Field(
        "",
        description="Hosts or networks, separated by commas, that file_url may reach although they are not public.",
    )

    @field_validator("file_url_allow")
    @classmethod
    def _is_understood(cls, text: str) -> str:
        Allowed.parse(text)
        return text

    @model_validator(mode="after")
    def _jobs_outlive_what_belongs_to_them(self) -> Self:
        if not self.job_keep_seconds:
            return self
        if not 0 < self.document_keep_seconds <= self.job_keep_seconds:
            raise ValueError("DOCFLEET_DOCUMENT_KEEP_SECONDS: must not be longer than DOCFLEET_JOB_KEEP_SECONDS")
        if self.idempotency_keep_seconds > self.job_keep_seconds:
            raise ValueError("DOCFLEET_IDEMPOTENCY_KEEP_SECONDS: must not be longer than DOCFLEET_JOB_KEEP_SECONDS")
        return self
