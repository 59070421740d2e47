"""What a reader child may use: memory, CPU, files, network; Linux only, set by the child on itself.

This is damage control for parsers of hostile files, not a full sandbox: the child keeps its user and
its view of the file system. It loses the network where the kernel lets it make a network namespace
(as root, or with unprivileged user namespaces); elsewhere a NetworkPolicy has to do that.
"""

import ctypes
import ctypes.util
import os
import resource
import signal
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38
_CLONE_NEWUSER: Final = 0x10000000
_CLONE_NEWNET: Final = 0x40000000
#: stderr goes to a file of its own, so a chatty parser cannot fill a disk.
_FILE_BYTES: Final = 256 << 10
_DESCRIPTORS: Final = 128
#: Code, read-only data and the spool's pages count as resident, but not as data.
CODE_BYTES: Final = 160 << 20

_libc = ctypes.CDLL(None, use_errno=True)


def die_with(parent_pid: int) -> None:
    """Have the kernel kill this process when the thread that started it ends; exit when that is too late."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        raise SystemExit(0)


def leave_network() -> bool:
    """Move to an empty network namespace; False when the kernel does not allow it. Call before any thread starts."""
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    return any(_libc.unshare(flags) == 0 for flags in (_CLONE_NEWNET, _CLONE_NEWUSER | _CLONE_NEWNET))


def limit(memory_bytes: int) -> None:
    """Bound memory (resident at most `memory_bytes`, as far as data goes), files and core dumps for good."""
    data_bytes = max(memory_bytes - CODE_BYTES, 64 << 20)
    resource.setrlimit(resource.RLIMIT_DATA, (data_bytes, data_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE_BYTES, _FILE_BYTES))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_DESCRIPTORS, _DESCRIPTORS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def limit_cpu(seconds: float) -> None:
    """Let the kernel kill this process (SIGXCPU) after this many more seconds of CPU time."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime + seconds) + 2
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))
