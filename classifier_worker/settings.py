"""What the worker is told by its environment, checked field by field and against each other."""

from typing import Self

from pydantic import Field, model_validator

from classifier_worker.core.retry import DELAY_SECONDS_MAX
from docfleet.settings import KafkaSettings, ObjectSettings

_MIB = 1 << 20


class WorkerSettings(KafkaSettings, ObjectSettings):
    """Settings of `python -m classifier_worker`."""

    # intake
    group_protocol: str = Field(
        "classic",
        pattern="^(classic|consumer|share)$",
        description="How workers share jobs: classic, consumer (KIP-848), or for workers share (KIP-932, a preview).",
    )
    session_timeout_seconds: float = Field(
        15.0, ge=1, le=300, description="After this silence a worker's partitions go to others (classic protocol)."
    )
    max_jobs_in_flight: int = Field(
        256, ge=2, le=10_000, description="Most jobs that one worker holds, those that wait in it included."
    )
    max_bytes_in_flight: int = Field(
        1024 * _MIB, ge=_MIB, description="Most bytes of documents whose jobs one worker has started."
    )
    revoke_drain_seconds: float = Field(
        10.0, ge=0, le=120, description="How long a rebalance waits for started jobs of a partition that goes away."
    )
    head_seconds: float = Field(
        300.0,
        gt=0,
        description="A job that holds its partition's offsets back for this long is stopped and tried again.",
    )
    head_stretch: int = Field(
        1000, ge=2, description="So many messages finished ahead of a job stop it, and pause its partition meanwhile."
    )
    share_members: int = Field(
        16, ge=1, le=256, description="Members of the share group in one worker; each holds one job, or one batch."
    )
    share_lock_seconds: float = Field(
        60.0,
        ge=1,
        le=3600,
        description="How long a job of the share group is locked for one worker; brokers allow 60 by default.",
    )
    # failures
    max_attempts: int = Field(5, ge=1, le=100, description="Attempts until a job is given up.")
    retry_base_seconds: float = Field(1.0, gt=0, description="Longest wait after the first attempt; doubles each time.")
    retry_max_seconds: float = Field(60.0, gt=0, le=DELAY_SECONDS_MAX, description="Longest wait between two attempts.")
    # reading
    readers: int = Field(2, ge=1, le=256, description="Documents read at the same time, each in a child process.")
    max_pages: int = Field(4, ge=1, le=100, description="Pages of a document that are read, from the first on.")
    image_px: int = Field(512, ge=64, le=4096, description="Long side of a page's image in pixels.")
    structure_pages: int = Field(1, ge=0, le=100, description="Pages, from the first on, that pdfplumber looks at.")
    ocr: bool = Field(True, description="Read pages without a text layer by OCR.")
    document_seconds: float = Field(30.0, gt=0, description="Most time that reading one document may take.")
    document_bytes: int = Field(512 * _MIB, ge=1, description="Largest document that is read.")
    reader_memory_bytes: int = Field(
        1000 * _MIB, ge=128 * _MIB, description="Most memory that reading one document may take."
    )
    # classifying
    bundle: str = Field(
        "default", min_length=1, description="Model bundle: `default`, `production`, a folder, or a hub name."
    )
    device: str = Field("auto", pattern="^(auto|cpu|cuda)$", description="Where the model runs: auto, cpu or cuda.")
    torch_threads: int = Field(0, ge=0, le=256, description="CPU threads of the model; 0 leaves the choice to torch.")
    model_seconds: float = Field(120.0, gt=0, description="Most time that a page may wait for its classification.")
    simulated_model_seconds: float | None = Field(
        None,
        ge=0,
        description="For load and fault tests only: no model is loaded, each page takes this long, answers mean nothing"
        " and every result says `simulated@1`.",
    )

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.retry_base_seconds > self.retry_max_seconds:
            raise ValueError(
                "DOCFLEET_RETRY_BASE_SECONDS must not be larger than DOCFLEET_RETRY_MAX_SECONDS"
                f" ({self.retry_base_seconds:g} > {self.retry_max_seconds:g})"
            )
        if self.max_jobs_in_flight < 2 * self.job_threads:
            raise ValueError(
                f"DOCFLEET_MAX_JOBS_IN_FLIGHT must be at least {2 * self.job_threads} for"
                f" DOCFLEET_READERS={self.readers}, or workers would idle while intake is paused"
            )
        if self.structure_pages > self.max_pages:
            raise ValueError("DOCFLEET_STRUCTURE_PAGES must not be larger than DOCFLEET_MAX_PAGES")
        return self

    @property
    def job_threads(self) -> int:
        """Jobs worked on at a time: as many as are read, and as many again that wait for the model or for Kafka."""
        return 2 * self.readers
