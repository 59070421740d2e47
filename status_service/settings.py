"""What status_service is told by its environment."""

from pydantic import Field

from docfleet.settings import DatabaseSettings, KafkaSettings


class StatusSettings(KafkaSettings, DatabaseSettings):
    """All settings of status_service."""

    group_protocol: str = Field(
        "classic",
        pattern="^(classic|consumer|share)$",  # share is for workers; the services may have one environment
        description="Consumer group protocol: `classic` (cooperative-sticky) or `consumer` (KIP-848).",
    )
    session_timeout_seconds: float = Field(
        15.0, ge=1, description="A consumer that is silent for this long loses its partitions (classic protocol)."
    )
    key_cache_seconds: float = Field(
        3.0, ge=0, le=60, description="How long a valid API key is remembered, and a revoked one still works."
    )
