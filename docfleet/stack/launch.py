"""Becomes another program, after tying its life to its parent's; run as a script, never imported.

    python launch.py PARENT_PID SIGNAL USER PROGRAM [ARGUMENT ...]

PARENT_PID gone: SIGNAL is sent to the program (prctl(2), PR_SET_PDEATHSIG), so that a stack whose
`docfleet up` was killed does not stay behind. A USER other than "-" gives up root first; "+USER" keeps
the one capability of passing through folders that are closed to USER, because a stack below /root
must run without opening /root to everybody. A script of its own, because code between fork and exec
of a process with threads may deadlock.
"""

import ctypes
import os
import pwd
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_KEEPCAPS = 8
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAP_DAC_OVERRIDE = 1
_CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(*arguments: int) -> None:
    if _libc.prctl(*(ctypes.c_ulong(argument) for argument in (*arguments, 0, 0, 0, 0)[:5])) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl({arguments[0]}): {os.strerror(code)}")


def become(user: str, *, keep_passage: bool) -> None:
    """Give up root for `user`; `keep_passage` keeps CAP_DAC_OVERRIDE, over the exec too (capabilities(7))."""
    account = pwd.getpwnam(user)
    os.setgroups([])
    os.setgid(account.pw_gid)
    if keep_passage:
        _prctl(_PR_SET_KEEPCAPS, 1)
    os.setuid(account.pw_uid)
    if keep_passage:
        header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
        bit = 1 << _CAP_DAC_OVERRIDE
        sets = (ctypes.c_uint32 * 6)(bit, bit, bit, 0, 0, 0)  # effective, permitted, inheritable; low words first
        if _libc.capset(header, sets) != 0:
            code = ctypes.get_errno()
            raise OSError(code, f"capset: {os.strerror(code)}")
        _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE)


def main(parent_pid: int, signal_number: int, user: str, argv: list[str]) -> None:
    """Replace this process by `argv`."""
    if user != "-":
        become(user.removeprefix("+"), keep_passage=user.startswith("+"))
    _prctl(_PR_SET_PDEATHSIG, signal_number)  # after setuid, which clears it
    if os.getppid() != parent_pid:  # the parent died before the line above
        sys.exit(1)
    os.execvp(argv[0], argv)  # noqa: S606  # no shell is the point


if __name__ == "__main__":
    try:
        main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:])
    except OSError as error:
        sys.exit(f"cannot start {sys.argv[4]}: {error}")
