"""The Dockerfile's stages without an engine: what its first one builds, what its second one starts, and how.

An image is a fresh virtual environment with the project's wheel, installed by pip, and links to what the wheel's
metadata asks for, as it is installed for these tests: what pip would install, in seconds and without a network.
It starts as the image's user, on a root that is read-only, with an empty folder in place of /tmp.
"""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import urllib.error
import urllib.request
import venv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import Distribution, distribution
from importlib.util import cache_from_source
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
#: EXTRA and SERVICE of each image, as the Dockerfile's head says.
IMAGES = dict(re.findall(r"--build-arg EXTRA=(\S+) +--build-arg SERVICE=(\S+)", DOCKERFILE))
#: What the first stage copies into its folder before it installs.
COPIED = [name for line in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE) for name in line.split()]
#: Extras that every image has besides its own.
COMMON_EXTRAS = re.findall(r'pip install --no-cache-dir "\.\[\$\{EXTRA[^}]*\},(.+)\]"', DOCKERFILE)[0].split(",")
USER, GROUP = re.findall(r"^USER (\d+):(\d+)$", DOCKERFILE, re.MULTILINE)[0]

#: Arguments: the folder in place of /tmp, then the command. The one right that is left is to read: the interpreter
#: may be in a folder of root's own.
_CONFINED = f"""
set -e
mount -o remount,ro,bind /
mount -t tmpfs -o uid={USER},gid={GROUP},mode=700 tmpfs "$1"
cd "$1"
shift
exec setpriv --reuid {USER} --regid {GROUP} --clear-groups --no-new-privs --inh-caps=-all,+dac_read_search \
  --ambient-caps=-all,+dac_read_search --bounding-set=-all,+dac_read_search "$@"
"""


def install(wheel: Path, extra: str, folder: Path) -> Path:
    """Make an environment below `folder` with the wheel and what its extra and the common ones ask for."""
    environment = folder / "venv"
    venv.create(environment)
    pip = [sys.executable, "-m", "pip", "--python", str(environment / "bin" / "python")]
    command = [*pip, "install", "--quiet", "--no-index", "--no-deps", "--no-cache-dir", str(wheel)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (packages,) = (environment / "lib").glob("python*/site-packages")
    (metadata,) = packages.glob("docfleet-*.dist-info")
    for found in required_by(Distribution.at(metadata), (extra, *COMMON_EXTRAS)).values():
        link(found, packages)
    return environment


def required_by(project: Distribution, extras: tuple[str, ...]) -> dict[str, Distribution]:
    """Return every distribution that an install of the project with the extras leads to, by name."""
    found: dict[str, Distribution] = {}
    waiting = [(project, extra) for extra in ("", *extras)]
    seen = set()
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
    """Link the distribution's files, and what is compiled of them; folders are made, since several may share one."""
    for file in found.files or ():
        if ".." in file.parts or "__pycache__" in file.parts:
            continue
        there, here = Path(file.locate()), packages / file
        pairs = [(there, here)]
        if here.suffix == ".py":
            pairs.append((Path(cache_from_source(str(there))), Path(cache_from_source(str(here)))))
        for source, target in pairs:
            if source.exists() and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                target.symlink_to(source)


def confined(environment: Path, service: str, scratch: Path, command: list[str]) -> tuple[list[str], dict[str, str]]:
    """Return the command that runs `command` as the image does, and its environment."""
    (line,) = re.findall(r"^ENV (.+)$", DOCKERFILE, re.MULTILINE)
    variables = dict(word.split("=", 1) for word in shlex.split(line))
    places = {"$SERVICE": service, "/venv": str(environment), "$PATH": os.environ["PATH"], "/tmp": str(scratch)}
    there = re.compile("|".join(map(re.escape, places)))
    variables = {name: there.sub(lambda found: places[found[0]], text) for name, text in variables.items()}
    # programs that do not ask for HOME ask for TMPDIR, or take /tmp
    variables["TMPDIR"] = str(scratch)
    return ["unshare", "--mount", "sh", "-c", _CONFINED, "sh", str(scratch), *command], variables


@contextmanager
def started(
    environment: Path, service: str, scratch: Path, settings: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Start the image's CMD; its output goes to `<scratch>.log`. Killed at the end, if it still runs."""
    (cmd,) = re.findall(r"^CMD (.+)$", DOCKERFILE, re.MULTILINE)
    argv, variables = confined(environment, service, scratch, json.loads(cmd))
    with scratch.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(argv, env={**variables, **settings}, stdout=log, stderr=log)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait(10)


def answer(port: int, path: str) -> tuple[int, dict[str, object]]:
    """Return the status and the JSON that a probe gets."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as got:
            return got.status, json.load(got)
    except urllib.error.HTTPError as refused:
        return refused.code, json.load(refused)
