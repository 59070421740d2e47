"""Fixtures only."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contract import manifests

ROOT = Path(__file__).parents[2]
PACKAGES = ("producer_api", "classifier_worker", "status_service", "schemas", "docfleet")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory) -> Path:
    """Return a wheel of the project, built from a copy so that no build folder is left in the project.

    By the setuptools of this environment, which the extra `test` has, instead of one that is fetched for it.
    """
    source = tmp_path_factory.mktemp("source")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    target = tmp_path_factory.mktemp("wheel")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(target)]
    command = [sys.executable, "-m", "pip", "wheel", *options, str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = target.glob("*.whl")
    return wheel


@pytest.fixture(scope="session")
def builds() -> dict[str, manifests.Build]:
    """Return what kustomize makes of every overlay and every combination of components, by a name that says which."""
    if manifests.kubectl() is None:
        pytest.skip("needs kubectl")
    return manifests.build_all()
