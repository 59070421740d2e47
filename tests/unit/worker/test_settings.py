"""The worker's settings: defaults are sound, and every fault is named at once."""

import pytest

from classifier_worker.settings import WorkerSettings
from docfleet.settings import InvalidSettings

ENOUGH = {"KAFKA_BOOTSTRAP_SERVERS": "localhost:9092"}


def test_brokers_are_all_that_must_be_told() -> None:
    settings = WorkerSettings.from_mapping(ENOUGH)
    assert settings.session_timeout_seconds == 15.0
    assert settings.group_protocol == "classic"


def test_every_fault_is_named_at_once() -> None:
    wrong = {"DOCFLEET_READERS": "0", "DOCFLEET_DEVICE": "tpu", "DOCFLEET_RETRY_MAX_SECONDS": "61"}
    with pytest.raises(InvalidSettings) as refused:
        WorkerSettings.from_mapping(wrong)
    for name in ("KAFKA_BOOTSTRAP_SERVERS", *wrong):
        assert f"{name}: " in str(refused.value)


@pytest.mark.parametrize(
    "together",
    [
        {"DOCFLEET_RETRY_BASE_SECONDS": "30", "DOCFLEET_RETRY_MAX_SECONDS": "10"},
        {"DOCFLEET_READERS": "128"},
        {"DOCFLEET_STRUCTURE_PAGES": "5"},
    ],
)
def test_fields_that_do_not_fit_together_are_refused_by_name(together: dict[str, str]) -> None:
    with pytest.raises(InvalidSettings, match=next(iter(together))):
        WorkerSettings.from_mapping(ENOUGH | together)
