"""The HTTP services install and start without the worker's libraries: a fresh environment per extra."""

import json
import subprocess
import venv
from pathlib import Path

import pytest

#: Prints what an import of the service loads, and which of the heavy libraries are installed at all.
PROBE = """
import importlib, importlib.util, json, sys
heavy = ("torch", "timm", "transformers", "pdfplumber", "pypdfium2", "PIL", "numpy", "onnxruntime")
importlib.import_module(sys.argv[1])
def installed(name):
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False
print(json.dumps({
    "loaded": [name for name in heavy if name in sys.modules],
    "installed": [name for name in (*heavy, "google.cloud.storage") if installed(name)],
}))
"""


@pytest.mark.parametrize(
    ("extra", "module", "installed"),
    [("api", "producer_api.__main__", ["google.cloud.storage"]), ("status", "status_service.__main__", [])],
)
def test_service_runs_without_the_workers_libraries(tmp_path, wheel, extra, module, installed):
    venv.create(tmp_path / "venv", with_pip=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"{wheel}[{extra}]")
    found = json.loads(run(python, "-c", PROBE, module, cwd=tmp_path))
    assert found == {"loaded": [], "installed": installed}


def run(*command: str, cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
