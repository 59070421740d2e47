"""compose.yaml and the Dockerfile fit together and fit the code: names, variables, times, extras, files."""

import tomllib
from pathlib import Path

import pytest
import yaml

from tests.contract.deployed import SETTINGS
from tests.contract.images import COMMON_EXTRAS, COPIED, IMAGES, USER

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]

COMPOSED = {name: service for name, service in COMPOSE["services"].items() if "build" in service}


@pytest.mark.parametrize("name", COMPOSED)
def test_compose_variables_are_settings_that_the_service_accepts(name):
    service, settings = COMPOSED[name], SETTINGS[name.replace("_", "-")]
    accepted = settings.from_mapping(service["environment"])
    standard = {variable for variable in service["environment"] if variable.startswith("OTEL_")}
    assert set(service["environment"]) - standard <= set(settings.variables().values())
    documented = (ROOT / "docs" / "settings.md").read_text("utf-8")
    assert all(f"| `{variable}` |" in documented for variable in standard)
    assert bool(standard) == (name != "migrate")
    if name != "migrate":
        assert float(service["stop_grace_period"].removesuffix("s")) > accepted.stop_deadline_seconds


@pytest.mark.parametrize("name", COMPOSED)
def test_compose_builds_the_image_that_the_service_needs(name):
    arguments = COMPOSED[name]["build"]["args"]
    assert arguments["EXTRA"] in EXTRAS
    assert (ROOT / arguments["SERVICE"] / "__main__.py").exists()
    extra_of = {"producer_api": "api", "classifier_worker": "worker", "status_service": "status"}
    assert arguments["EXTRA"] == extra_of[arguments["SERVICE"]]


def test_compose_mounts_files_and_folders_that_exist():
    mounts = [mount for service in COMPOSE["services"].values() for mount in service.get("volumes", [])]
    for source in (mount.split(":")[0] for mount in mounts):
        assert source in COMPOSE["volumes"] if not source.startswith(".") else (ROOT / source).exists()


def test_dockerfile_copies_and_installs_what_the_project_has():
    assert [name for name in COPIED if not (ROOT / name).exists()] == []
    assert IMAGES == {"api": "producer_api", "worker": "classifier_worker", "status": "status_service"}
    assert {*IMAGES, *COMMON_EXTRAS} <= set(EXTRAS)
    assert USER == "10001"
