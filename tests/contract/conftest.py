"""Fixtures only."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.contract import images, manifests

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory) -> Path:
    """Return a wheel of the project, built from what the Dockerfile copies and nothing else.

    By the setuptools of this environment, which the extra `test` has, instead of one that is fetched for it.
    """
    source = tmp_path_factory.mktemp("source")
    for name in images.COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        else:
            shutil.copy(ROOT / name, source)
    target = tmp_path_factory.mktemp("wheel")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(target)]
    command = [sys.executable, "-m", "pip", "wheel", *options, str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = target.glob("*.whl")
    return wheel


@pytest.fixture(scope="session")
def image_of(wheel) -> Iterator[Callable[[str], Path]]:
    """Return a function that gives the environment of an image, by its extra; a place where every user may look."""
    with TemporaryDirectory(prefix="docfleet-images-") as place:
        Path(place).chmod(0o755)
        yield cache(lambda extra: images.install(wheel, extra, Path(place) / extra))


@pytest.fixture(scope="session")
def builds() -> dict[str, manifests.Build]:
    """Return what kustomize makes of every overlay and every combination of components, by a name that says which."""
    if manifests.kubectl() is None:
        pytest.skip("needs kubectl")
    return manifests.build_all()
