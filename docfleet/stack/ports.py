"""Free TCP ports on the loopback address, the same ones for a data dir on every start where possible.

A port is free when nobody listens on it and no other process has been given it here: between the choice of a port and
the moment in which its server listens, seconds pass, and stacks start side by side.
"""

import json
import random
import socket
from pathlib import Path
from typing import Final

LOOPBACK: Final = "127.0.0.1"
#: Below the range that Linux takes the ports of outgoing connections from (net.ipv4.ip_local_port_range).
_LISTENING: Final = (20_000, 32_000)
_TRIES: Final = 100

_ours: Final[set[int]] = set()


def free_port() -> int:
    """Return a port that nobody listens on now, and that nobody else is given here while this process lives."""
    for _ in range(_TRIES):
        port = random.randrange(*_LISTENING)  # noqa: S311  # no secret
        if port not in _ours and _take(port):
            return port
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


class Ports:
    """Ports by purpose, remembered in a file: dashboards and shells keep their addresses over a restart."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ports: dict[str, int] = json.loads(path.read_text()) if path.exists() else {}

    def take(self, purpose: str) -> int:
        """Return the port of `purpose`: the remembered one if it is free, else a new one."""
        port = self._ports.get(purpose)
        if port is None or not _take(port):
            others = {other for name, other in self._ports.items() if name != purpose}
            port = free_port()
            while port in others:
                port = free_port()
            self._ports[purpose] = port
            self._path.write_text(json.dumps(self._ports, indent=1))
        return port


def _take(port: int) -> bool:
    """Make a port this process's own until it ends; False when somebody else has it."""
    return (port in _ours or _reserve(port)) and _is_unused(port)


def _reserve(port: int) -> bool:
    """Take the name of a port in the kernel (unix(7), abstract), which nobody has to tidy up after a process dies."""
    mark = socket.socket(socket.AF_UNIX)
    try:
        mark.bind(f"\0docfleet-port-{port}")
    except OSError:
        mark.close()
        return False
    mark.detach()  # open as long as the process, and no child's
    _ours.add(port)
    return True


def _is_unused(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True
