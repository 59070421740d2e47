"""The walls between the packages, held by import-linter; and that `schemas` is ours, not a namesake."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import schemas

ROOT = Path(__file__).parents[2]


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    command = shutil.which("lint-imports", path=str(Path(sys.executable).parent))
    assert command, "import-linter is in the extra `test`"
    return subprocess.run([command, "--no-cache"], cwd=folder, capture_output=True, text=True, timeout=120, check=False)


def test_every_wall_stands():
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("module", "planted"),
    [
        ("status_service/planted.py", "import producer_api"),
        ("docfleet/planted.py", "import status_service"),
        ("producer_api/planted.py", "import torch"),
        ("classifier_worker/core/planted.py", "import threading"),
    ],
)
def test_a_hole_in_a_wall_is_found(tmp_path, module, planted):
    for name in ("producer_api", "classifier_worker", "status_service", "docfleet", "schemas"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "bundles", ".*"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / module).write_text(f'"""Planted."""\n\n{planted}\n')
    done = lint_imports(tmp_path)
    assert done.returncode == 1
    assert "planted" in done.stdout


def test_schemas_is_this_projects_package():
    assert Path(schemas.__file__).resolve().is_relative_to(ROOT)
