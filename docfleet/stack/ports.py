"""Free TCP ports on the loopback address, the same ones for a data dir on every start where possible."""

import json
import random
import socket
from pathlib import Path
from typing import Final

LOOPBACK: Final = "127.0.0.1"
#: Below the range that Linux takes the ports of outgoing connections from (net.ipv4.ip_local_port_range).
_LISTENING: Final = (20_000, 32_000)
_TRIES: Final = 100


def is_free(port: int) -> bool:
    """Tell whether a server could listen on `port` now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def free_port() -> int:
    """Return a port that nobody listens on now, and that no outgoing connection is given before somebody does."""
    for _ in range(_TRIES):
        port = random.randrange(*_LISTENING)  # noqa: S311  # no secret
        if is_free(port):
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
        if port is None or not is_free(port):
            others = {other for name, other in self._ports.items() if name != purpose}
            port = free_port()
            while port in others:
                port = free_port()
            self._ports[purpose] = port
            self._path.write_text(json.dumps(self._ports, indent=1))
        return port
