"""Settings: all faults at once and by variable name, typing errors refused, secrets kept."""

import pytest
from pydantic import Field

from docfleet.setting_names import KNOWN_VARIABLES
from docfleet.settings import DatabaseSettings, InvalidSettings, KafkaSettings, documented_fields
from status_service.settings import StatusSettings

ENOUGH = {"KAFKA_BOOTSTRAP_SERVERS": "broker:9092", "DATABASE_URL": "postgresql://u:sesame@db/docfleet"}


class Both(KafkaSettings, DatabaseSettings):
    crowd_count: int = Field(3, ge=1, description="A setting of the test's own.")


def faults(environment: dict[str, str]) -> list[str]:
    with pytest.raises(InvalidSettings) as refused:
        Both.from_mapping(environment)
    return str(refused.value).splitlines()


def test_defaults_are_enough_with_the_addresses():
    settings = Both.from_mapping(ENOUGH)
    assert (settings.kafka_bootstrap_servers, settings.http_port, settings.crowd_count) == ("broker:9092", 8080, 3)
    assert settings.database_url.get_secret_value() == "postgresql://u:sesame@db/docfleet"


def test_all_faults_are_named_at_once_by_their_variables():
    said = faults({"DOCFLEET_HTTP_PORT": "99999", "DOCFLEET_CROWD_COUNT": "many", "KAFKA_SECURITY_PROTOCOL": "SSH"})
    named = {line.split(":")[0] for line in said}
    assert named == {
        *("DOCFLEET_HTTP_PORT", "DOCFLEET_CROWD_COUNT", "KAFKA_SECURITY_PROTOCOL"),
        *("KAFKA_BOOTSTRAP_SERVERS", "DATABASE_URL"),
    }
    assert any("is required (Kafka brokers" in line for line in said)


def test_unknown_variable_is_refused_with_the_nearest_name():
    (said,) = faults({**ENOUGH, "DOCFLEET_HTTP_PROT": "1"})
    assert said == "DOCFLEET_HTTP_PROT: no such setting; did you mean DOCFLEET_HTTP_PORT?"


def test_settings_of_the_other_services_and_of_the_command_are_no_typing_errors():
    others = dict.fromkeys({*KNOWN_VARIABLES, "DOCFLEET_URL", "DOCFLEET_API_KEY"} - set(Both.variables().values()), "x")
    Both.from_mapping({**ENOUGH, **others})


def test_empty_variable_counts_as_not_set():
    assert Both.from_mapping({**ENOUGH, "DOCFLEET_HTTP_PORT": ""}).http_port == 8080


def test_secrets_are_never_shown():
    settings = Both.from_mapping({**ENOUGH, "KAFKA_SASL_PASSWORD": "hush"})
    assert "sesame" not in repr(settings)
    assert "hush" not in repr(settings)
    assert "hidden-value" not in "".join(faults({**ENOUGH, "DOCFLEET_HTTP_PORT": "hidden-value"}))


def test_every_setting_of_status_service_is_known_and_has_a_meaning():
    rows = documented_fields(StatusSettings)
    assert {variable for variable, *_ in rows if variable.startswith("DOCFLEET_")} <= KNOWN_VARIABLES
    assert all(meaning for *_, meaning in rows)
