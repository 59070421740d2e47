"""A TCP relay between a service and a server of its own that can be slow, silent or cut off at a chosen place."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Proxy:
    """Passes everything on, except what a test asks for; `heal` ends that."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._passing = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.refused = 0
        self.heal()
        threading.Thread(target=self._accept, daemon=True).start()

    def heal(self) -> None:
        """Pass everything on again, what was held up too."""
        self._refuse = 0
        self._cut_at: bytes | None = None
        self._stall_at: bytes | None = None
        self._cut_answer_to: bytes | None = None
        self._passing.set()

    def stall(self) -> None:
        """Take what comes, connections too, and pass nothing on."""
        self._passing.clear()

    def stall_at(self, text: bytes) -> None:
        """Pass nothing on from the next request with this text on."""
        self._stall_at = text

    def refuse(self, times: int) -> None:
        """Answer so many requests with 503."""
        self._refuse, self.refused = times, 0

    def cut_at(self, text: bytes) -> None:
        """Cut the connection of the next request with this text, which never gets there."""
        self._cut_at = text

    def cut_answer_to(self, text: bytes) -> None:
        """Pass the next request with this text on and cut its connection when the answer comes."""
        self._cut_answer_to = text

    def close(self) -> None:
        self._listener.close()
        self.heal()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target, timeout=10)
            except OSError:
                return
            server.settimeout(None)
            cut = threading.Event()
            for source, target, is_request in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._copy, args=(source, target, is_request, cut), daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket, is_request: bool, cut: threading.Event) -> None:
        with suppress(OSError):
            while piece := source.recv(1 << 20):
                if is_request and self._stall_at is not None and self._stall_at in piece:
                    self._stall_at = None
                    self._passing.clear()
                self._passing.wait()
                if is_request and self._refuse > 0 and piece.startswith((b"GET", b"POST", b"DELETE")):
                    self._refuse -= 1
                    self.refused += 1
                    source.sendall(UNAVAILABLE)
                    break
                if is_request and self._cut_at is not None and self._cut_at in piece:
                    self._cut_at = None
                    break
                if is_request and self._cut_answer_to is not None and self._cut_answer_to in piece:
                    self._cut_answer_to = None
                    cut.set()
                if not is_request and cut.is_set():
                    break
                target.sendall(piece)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            if end is source:
                end.close()


@contextmanager
def proxy(host: str, port: int) -> Iterator[Proxy]:
    relay = Proxy(host, port)
    try:
        yield relay
    finally:
        relay.close()
