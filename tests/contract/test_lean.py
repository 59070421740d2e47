"""The HTTP services install and start without the worker's libraries: a fresh environment per extra (images.py)."""

import json
import subprocess
from importlib.metadata import Distribution

import pytest

from tests.contract.images import required_by

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
def test_service_runs_without_the_workers_libraries(extra, module, installed, image_of, tmp_path):
    command = [str(image_of(extra) / "bin" / "python"), "-c", PROBE, module]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout) == {"loaded": [], "installed": installed}


def test_the_workers_libraries_would_be_found(image_of):
    (metadata,) = image_of("status").glob("lib/python*/site-packages/docfleet-*.dist-info")
    assert {"torch", "numpy", "google-cloud-storage"} <= required_by(Distribution.at(metadata), ("worker",)).keys()
