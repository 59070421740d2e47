"""The one configuration object of a service: read from the environment once, all faults named at once.

A field's name in capitals is its environment variable, with the prefix DOCFLEET_ unless the field has
an alias (the standard names such as KAFKA_BOOTSTRAP_SERVERS). `docs/settings.md` is generated from the
fields, so each carries its meaning and unit. Secrets are SecretStr and never printed.
"""

import difflib
import os
from typing import Any, Self

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from docfleet import fault_points
from docfleet.setting_names import KNOWN_VARIABLES

PREFIX = "DOCFLEET_"

#: DOCFLEET_ variables that belong to the command and to clients, not to a service.
COMMAND_VARIABLES = frozenset({"DOCFLEET_URL", "DOCFLEET_API_KEY"})


class InvalidSettings(Exception):
    """Everything that is wrong with the environment, one line a fault, each with its variable's name."""


class Settings(BaseSettings):
    """What every service is told."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="ignore", hide_input_in_errors=True, populate_by_name=True
    )

    http_host: str = Field("0.0.0.0", description="Address that the service listens on.")  # noqa: S104  # a container's default
    http_port: int = Field(8080, ge=0, le=65535, description="Port that the service listens on; 0 picks a free one.")
    log_level: str = Field(
        "INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="Least severe level that is logged."
    )
    stop_deadline_seconds: float = Field(
        25.0, gt=0, description="From SIGTERM to exit: work that is not done by then is handed back."
    )
    fault_at: str | None = Field(
        None,
        description="For fault tests only: `step:count` kills the process when it reaches that step so many times.",
    )

    @field_validator("fault_at")
    @classmethod
    def _is_a_step(cls, text: str | None) -> str | None:
        if text is not None:
            fault_points.check(text)
        return text

    @classmethod
    def from_environment(cls) -> Self:
        """Return the settings of this process's environment.

        Raises:
            InvalidSettings: names every missing, wrong and unknown variable.

        """
        return cls.from_mapping(os.environ)

    @classmethod
    def from_mapping(cls, environment: Any) -> Self:
        """Return the settings of `environment`, a mapping of variable names to texts."""
        values = {
            name: environment[variable] for name, variable in cls.variables().items() if environment.get(variable)
        }
        faults = cls._unknown_variables(environment)
        try:
            settings = cls.model_validate(values)
        except ValidationError as error:
            faults = [*map(cls._fault, error.errors(include_input=False, include_url=False)), *faults]
        if faults:
            raise InvalidSettings("\n".join(faults))
        return settings

    @classmethod
    def variables(cls) -> dict[str, str]:
        """Return each field's environment variable, by field name."""
        return {name: field.alias or PREFIX + name.upper() for name, field in cls.model_fields.items()}

    @classmethod
    def _unknown_variables(cls, environment: Any) -> list[str]:
        known = {*KNOWN_VARIABLES, *cls.variables().values(), *COMMAND_VARIABLES}
        unknown = sorted(v for v, text in environment.items() if v.startswith(PREFIX) and text and v not in known)
        faults = []
        for variable in unknown:
            near = difflib.get_close_matches(variable, known, n=1)
            faults.append(f"{variable}: no such setting" + (f"; did you mean {near[0]}?" if near else ""))
        return faults

    @classmethod
    def _fault(cls, error: Any) -> str:
        if not error["loc"]:  # a check of fields against each other, which names its variables itself
            return str(error["msg"]).removeprefix("Value error, ")
        place = str(error["loc"][0])  # the alias of a field that has one, else its name
        name, variable = next(pair for pair in cls.variables().items() if place in pair)
        if error["type"] == "missing":
            return f"{variable}: is required ({cls.model_fields[name].description})"
        return f"{variable}: {error['msg'].removeprefix('Value error, ')}"


class KafkaSettings(Settings):
    """What a service that talks to Kafka is told besides."""

    kafka_bootstrap_servers: str = Field(
        alias="KAFKA_BOOTSTRAP_SERVERS", description="Kafka brokers, `host:port` separated by commas."
    )
    kafka_security_protocol: str = Field(
        "PLAINTEXT",
        alias="KAFKA_SECURITY_PROTOCOL",
        pattern="^(PLAINTEXT|SSL|SASL_PLAINTEXT|SASL_SSL)$",
        description="How to talk to the brokers.",
    )
    kafka_sasl_mechanism: str | None = Field(
        None, alias="KAFKA_SASL_MECHANISM", description="SASL mechanism, such as PLAIN or SCRAM-SHA-512."
    )
    kafka_sasl_username: str | None = Field(None, alias="KAFKA_SASL_USERNAME", description="SASL user.")
    kafka_sasl_password: SecretStr | None = Field(None, alias="KAFKA_SASL_PASSWORD", description="SASL password.")
    kafka_ssl_ca_location: str | None = Field(
        None, alias="KAFKA_SSL_CA_LOCATION", description="File with the CA certificates of the brokers."
    )
    schema_registry_url: str | None = Field(
        None,
        alias="SCHEMA_REGISTRY_URL",
        description="Confluent-compatible schema registry. When set, events are in Confluent wire format, "
        "otherwise in Avro single-object encoding.",
    )


class DatabaseSettings(Settings):
    """What a service that talks to Postgres is told besides."""

    database_url: SecretStr = Field(
        alias="DATABASE_URL", description="PostgreSQL, `postgresql://user:password@host/db`."
    )
    database_pool_size: int = Field(10, ge=1, le=500, description="Most connections that one process opens.")
    database_timeout_seconds: float = Field(
        10.0, gt=0, description="Most time for one statement; a database that takes longer counts as away."
    )


class ObjectSettings(Settings):
    """What a service that talks to the object store is told besides."""

    storage_emulator_host: str | None = Field(
        None,
        alias="STORAGE_EMULATOR_HOST",
        description="Address of a GCS-protocol server other than Google's. When not set, Google's own, "
        "by the default credentials.",
    )
    bucket: str = Field("docfleet", min_length=3, description="Bucket that holds the documents.")
    object_timeout_seconds: float = Field(30.0, gt=0, description="Most time for one call to the object store.")


def documented_fields(settings: type[Settings]) -> list[tuple[str, str, str, str]]:
    """Return (variable, type, default, meaning) of each field, for `docs/settings.md`."""
    rows = []
    for name, variable in settings.variables().items():
        field = settings.model_fields[name]
        kind = str(getattr(field.annotation, "__name__", field.annotation)).replace("SecretStr", "secret")
        default = "required" if field.is_required() else "" if field.default is None else str(field.default)
        rows.append((variable, kind, default, field.description or ""))
    return rows
