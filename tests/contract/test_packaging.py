"""What a wheel of the project holds: the contracts, the statements and the model bundle as well as the code."""

import subprocess
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

#: Files that are read at run time and are no Python.
DATA = (
    "schemas/avro/*.avsc",
    "schemas/sql/*.sql",
    "schemas/http/*.yaml",
    "schemas/examples/**/*",
    "classifier_worker/bundles/**/*",
    "*/queries.sql",
    "*/static/*",
)


@pytest.fixture(scope="module")
def names(wheel) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def tracked(pattern: str) -> set[str]:
    """Return the project's own files that the pattern names; a stray file of a working copy is none."""
    done = subprocess.run(
        ["git", "ls-files", f":(glob){pattern}"], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True
    )
    return set(done.stdout.split())


def test_every_module_is_in_the_wheel(names):
    packages = ("producer_api", "classifier_worker", "status_service", "schemas", "docfleet")
    modules = {name for package in packages for name in tracked(f"{package}/**/*.py")}
    assert len(modules) > 20
    assert modules - names == set()


@pytest.mark.parametrize("pattern", DATA)
def test_data_files_are_in_the_wheel(names, pattern):
    assert tracked(pattern) - names == set()


@pytest.mark.parametrize("pattern", DATA[:3])
def test_patterns_of_data_files_name_something(pattern):
    assert tracked(pattern)


def test_tests_and_benchmarks_are_not_in_the_wheel(names):
    assert {name.split("/")[0] for name in names} - {"producer_api", "classifier_worker", "status_service"} == {
        "schemas",
        "docfleet",
        next(name for name in (n.split("/")[0] for n in names) if name.endswith(".dist-info")),
    }
