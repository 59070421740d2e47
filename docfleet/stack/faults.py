"""Why a stack does not start."""


class CannotStart(Exception):
    """Something that the user must change first: a port in use, a running stack, a missing extra (exit code 2)."""


class StartFailed(Exception):
    """A part of the stack did not come up; the message says which and why (exit code 1)."""
