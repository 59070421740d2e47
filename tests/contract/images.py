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
import stat
import subprocess
import sys
import urllib.error
import urllib.request
import venv
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import Distribution, distribution
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
    link(required_by(Distribution.at(metadata), (extra, *COMMON_EXTRAS)).values(), packages)
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


def link(distributions: Iterable[Distribution], packages: Path) -> None:
    """Link what distributions hold into `packages`: folders as a whole, those that several share file by file."""
    owners: dict[str, list[Distribution]] = {}
    for found in distributions:
        for top in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
            owners.setdefault(top, []).append(found)
    for top, (owner, *others) in owners.items():
        if not others:
            (packages / top).symlink_to(owner.locate_file(top))
            continue
        for file in (file for found in (owner, *others) for file in found.files or () if file.parts[0] == top):
            target = packages / file
            if "__pycache__" not in file.parts and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                target.symlink_to(file.locate())


def confined(environment: Path, service: str, scratch: Path, command: list[str]) -> tuple[list[str], dict[str, str]]:
    """Return the command that runs `command` as the image does, and its environment."""
    (line,) = re.findall(r"^ENV (.+)$", DOCKERFILE, re.MULTILINE)
    variables = dict(word.split("=", 1) for word in shlex.split(line))
    places = {"$SERVICE": service, "/venv": str(environment), "$PATH": os.environ["PATH"], "/tmp": str(scratch)}
    there = re.compile("|".join(map(re.escape, places)))
    variables = {name: there.sub(lambda found: places[found[0]], text) for name, text in variables.items()}
    # programs that do not ask for HOME ask for TMPDIR, or take /tmp
    variables["TMPDIR"] = str(scratch)
    steps = ["set -e", "mount -o remount,ro,bind /", *_in_sight(Path(sys.base_prefix), Path(sys.prefix))]
    steps += [f"mount -t tmpfs -o uid={USER},gid={GROUP},mode=700 tmpfs {scratch}", f"cd {scratch}"]
    steps.append(f'exec setpriv --reuid {USER} --regid {GROUP} --clear-groups --no-new-privs --bounding-set=-all "$@"')
    return ["unshare", "--mount", "sh", "-c", "\n".join(steps), "sh", *command], variables


def _in_sight(*folders: Path) -> list[str]:
    """Return shell commands that show folders to everyone which are in one that is its owner's alone, such as /root."""
    steps: list[str] = []
    behind: dict[Path, list[Path]] = {}
    for folder in {folder.resolve() for folder in folders}:
        hiding = next((parent for parent in reversed(folder.parents) if not parent.stat().st_mode & stat.S_IXOTH), None)
        if hiding is not None:
            behind.setdefault(hiding, []).append(folder)
    for hiding, hidden in behind.items():
        kept = [(shlex.quote(str(folder)), f"/mnt/{number}") for number, folder in enumerate(hidden)]
        steps += ["mount -t tmpfs tmpfs /mnt", f"mkdir {' '.join(place for _, place in kept)}"]
        steps += [f"mount --bind {folder} {place}" for folder, place in kept]
        steps.append(f"mount -t tmpfs -o mode=755 tmpfs {shlex.quote(str(hiding))}")
        steps += [f"mkdir -p {folder} && mount --bind {place} {folder}" for folder, place in kept]
    return steps


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
