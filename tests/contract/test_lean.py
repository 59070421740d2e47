"""The HTTP services install and start without the worker's libraries: a fresh environment per extra.

The environment holds the project's wheel and links to what its metadata asks for, as it is installed
for these tests: what pip would install, in seconds and without a network.
"""

import json
import subprocess
import venv
import zipfile
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

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
    assert probe(tmp_path, wheel, extra, module) == {"loaded": [], "installed": installed}


def test_the_workers_libraries_would_be_found(tmp_path, wheel):
    assert {"torch", "numpy", "google-cloud-storage"} <= required_by(unpacked(wheel, tmp_path), "worker").keys()


def probe(folder: Path, wheel: Path, extra: str, module: str) -> dict[str, list[str]]:
    """Return what PROBE prints in a fresh environment with the extra."""
    venv.create(folder / "venv")
    (packages,) = (folder / "venv" / "lib").glob("python*/site-packages")
    for found in required_by(unpacked(wheel, packages), extra).values():
        link(found, packages)
    command = [str(folder / "venv" / "bin" / "python"), "-c", PROBE, module]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def unpacked(wheel: Path, packages: Path) -> Distribution:
    """Install the wheel, which holds Python only, into a folder of packages."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    (metadata,) = packages.glob("docfleet-*.dist-info")
    return Distribution.at(metadata)


def required_by(project: Distribution, extra: str) -> dict[str, Distribution]:
    """Return every distribution that an install of the project with the extra leads to, by name."""
    found: dict[str, Distribution] = {}
    seen, waiting = set(), [(project, extra), (project, "")]
    while waiting:
        parent, wanted = waiting.pop()
        for requirement in map(Requirement, parent.requires or ()):
            if requirement.marker and not requirement.marker.evaluate({"extra": wanted}):
                continue
            name = canonicalize_name(requirement.name)
            found.setdefault(name, distribution(name))
            for further in ("", *requirement.extras):
                if (name, further) not in seen:
                    seen.add((name, further))
                    waiting.append((found[name], further))
    return found


def link(found: Distribution, packages: Path) -> None:
    """Link the distribution's files into `packages`; folders are made, since several may share one."""
    for file in found.files or ():
        target = packages / file
        if ".." not in file.parts and "__pycache__" not in file.parts and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(file.locate())
