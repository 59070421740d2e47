"""deploy/monitoring/generate.py as a module: a program, not part of a package."""

import importlib.util
from pathlib import Path
from types import ModuleType

FOLDER = Path(__file__).parents[1] / "deploy" / "monitoring"


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("monitoring_generate", FOLDER / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generator = _load()
