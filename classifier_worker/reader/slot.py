"""One reader child as its parent sees it: how it is started, spoken to, killed and what it died of."""

import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from classifier_worker.reader import wire

#: What a child needs of its parent's environment: to find Python, its packages and the text encoding.
_INHERITED: Final = ("PATH", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "LD_LIBRARY_PATH")
_FIXED: Final = {
    "LANG": "C.UTF-8",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    # Keep freed pages: decoded pictures come and go, and faulting them in again costs a few percent.
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(64 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(256 << 20),
    "MALLOC_TOP_PAD_": str(16 << 20),
    "PYTHONNOUSERSITE": "1",
}
#: How often a waiting parent looks at deadline, cancellation and the child's memory.
POLL_SECONDS: Final = 0.05
#: A child that died having used this share of its memory died of it.
_MEMORY_DEATH: Final = 0.8
_STDERR_TAIL_BYTES: Final = 2000
_REAP_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Death:
    """How a child ended: its exit code (minus the signal's number when one killed it), peak memory and last words.

    `peak_bytes` is exact where the child grew beyond its parent, else the most that was seen of it.
    """

    exit_code: int
    peak_bytes: int
    stderr: str

    def ran_out_of_memory(self, memory_bytes: int) -> bool:
        """Whether the limit killed it: it had nearly all of it, or aborted because it was refused more.

        PDFium aborts without a word when an allocation fails; glibc says what it found corrupted.
        """
        is_refused = -self.exit_code == signal.SIGABRT and (not self.stderr or "bad_alloc" in self.stderr)
        return is_refused or self.peak_bytes > _MEMORY_DEATH * memory_bytes

    def __str__(self) -> str:
        if self.exit_code < 0:
            return f"killed by {signal.Signals(-self.exit_code).name}"
        return f"exit code {self.exit_code}"


class ReaderChild:
    """A child process and the channel to it; used by one thread at a time."""

    def __init__(self, process: "subprocess.Popen[bytes]", channel: wire.Channel, stderr: int) -> None:
        #: Linux keeps the high-water mark across exec: a child's ru_maxrss begins at that of the process that forked
        self._inherited_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        self._seen_bytes = 0
        self.channel = channel
        self.documents = 0
        self.is_between_documents = True  #: else it cannot take another one
        self.killed_because = ""
        self._process = process
        self._stderr = stderr
        self._death: Death | None = None

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def resident_bytes(self) -> int:
        """Its resident memory now; 0 when it is gone."""
        try:
            fields = Path(f"/proc/{self.pid}/statm").read_text().split()
        except OSError:
            return 0
        resident = int(fields[1]) * os.sysconf("SC_PAGE_SIZE") if len(fields) > 1 else 0
        self._seen_bytes = max(self._seen_bytes, resident)
        return resident

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs; one that ended stays to be buried."""
        if self._death is not None:
            return False
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def wait_ready(self, on_wait: Callable[[], None]) -> None:
        """Return when the child says that it can read; `wire.PeerGone` or `wire.BrokenProtocol` when it cannot."""
        header, _ = self.channel.receive(0, on_wait=on_wait)
        if header["kind"] != "ready":
            raise wire.BrokenProtocol(f"{header['kind']!r} before ready")

    def kill(self, because: str) -> None:
        """SIGKILL; whoever reads from it then meets `wire.PeerGone` and can ask why."""
        self.killed_because = self.killed_because or because
        if self._death is None:
            self._kill()

    def bury(self) -> Death:
        """Reap the child (killed when it does not end by itself) and return how it ended."""
        if self._death is not None:
            return self._death
        self.channel.sock.close()
        status, peak_kib = self._reap()
        # Popen would wait for the pid again, which by then may be another process's
        self._process.returncode = os.waitstatus_to_exitcode(status)
        size = os.fstat(self._stderr).st_size
        tail = os.pread(self._stderr, _STDERR_TAIL_BYTES, max(size - _STDERR_TAIL_BYTES, 0))
        os.close(self._stderr)
        peak_bytes = peak_kib * 1024 if peak_kib > self._inherited_kib else self._seen_bytes
        self._death = Death(self._process.returncode, peak_bytes, tail.decode("utf-8", "replace").strip())
        return self._death

    def _reap(self) -> tuple[int, int]:
        """Return wait status and peak resident memory in KiB."""
        deadline = time.monotonic() + (0.5 if not self.killed_because else _REAP_SECONDS)
        while time.monotonic() < deadline:
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            if pid:
                return status, usage.ru_maxrss
            time.sleep(0.002)
        self._kill()
        _, status, usage = os.wait4(self.pid, 0)
        return status, usage.ru_maxrss

    def _kill(self) -> None:
        # not Popen.kill, which would reap a child that is dead already, and its end with it
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


def child_environment() -> dict[str, str]:
    """Return all that a child gets of an environment: nothing that a hostile document could carry away."""
    return _FIXED | {name: os.environ[name] for name in _INHERITED if name in os.environ}


def start_child(*, memory_bytes: int, cpu_seconds: float) -> ReaderChild:
    """Start a child and return at once.

    Call it from a thread that lives as long as the child shall: the kernel kills the child when that
    thread ends (PR_SET_PDEATHSIG), so that none outlives a worker that was killed.
    """
    ours, theirs = socket.socketpair()
    stderr, stderr_name = tempfile.mkstemp(prefix="reader-stderr-")
    os.unlink(stderr_name)  # noqa: PTH108
    try:
        with theirs:
            # -B: bytecode written under a child's limit of file sizes is cut short, and breaks every later import of it
            command = [sys.executable, "-B", "-m", "classifier_worker.reader.child"]
            numbers = (theirs.fileno(), os.getpid(), memory_bytes, int(cpu_seconds) + 1)
            process = subprocess.Popen(  # noqa: S603 - fixed words and numbers
                [*command, *map(str, numbers)],
                env=child_environment(),
                cwd=Path(__file__).parents[2],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
            )
    except BaseException:
        ours.close()
        os.close(stderr)
        raise
    ours.settimeout(POLL_SECONDS)
    return ReaderChild(process, wire.Channel(ours), stderr)
