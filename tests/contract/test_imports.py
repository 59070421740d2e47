"""The walls between the packages, held by import-linter; and that `schemas` is ours, not a namesake."""

import shutil
import subprocess
import sys
from pathlib import Path

import schemas

ROOT = Path(__file__).parents[2]


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    command = shutil.which("lint-imports", path=str(Path(sys.executable).parent))
    assert command, "import-linter is in the extra `test`"
    return subprocess.run([command, "--no-cache"], cwd=folder, capture_output=True, text=True, timeout=120, check=False)


def test_every_wall_stands():
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_hole_in_any_wall_is_found(tmp_path):
    for name in ("producer_api", "classifier_worker", "status_service", "docfleet", "schemas"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "bundles", ".*"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    holes = [
        ("status_service.planted", "producer_api"),
        ("docfleet.planted", "status_service"),
        ("producer_api.planted", "torch"),
        ("classifier_worker.core.planted", "threading"),
    ]
    for module, imported in holes:
        path = tmp_path / module.replace(".", "/")
        path.with_suffix(".py").write_text(f'"""Planted."""\n\nimport {imported}\n')
    done = lint_imports(tmp_path)
    assert done.returncode == 1
    assert [hole for hole in holes if f"{hole[0]} -> {hole[1]}" not in done.stdout] == []


def test_schemas_is_this_projects_package():
    assert Path(schemas.__file__).resolve().is_relative_to(ROOT)
