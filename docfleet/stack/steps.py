"""Shows what the stack does while it does it, on stderr: stdout is for the ready line alone."""

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator
from typing import Final

#: A step that takes longer says so this often.
_REMINDER_SECONDS: Final = 10.0


class Steps:
    """Lines of the form `  3.2 s  kafka: ready`, timed from the start of the command."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    def say(self, text: str) -> None:
        """Show one line."""
        sys.stderr.write(f"{time.monotonic() - self._started:6.1f} s  {text}\n")
        sys.stderr.flush()

    @contextlib.asynccontextmanager
    async def step(self, name: str, doing: str, done: str = "ready") -> AsyncIterator[None]:
        """Show that `name` is `doing` something, that it still does, and that it is `done`."""
        self.say(f"{name}: {doing}")
        reminder = asyncio.create_task(self._remind(f"{name}: still {doing}"))
        try:
            yield
        finally:
            reminder.cancel()
        self.say(f"{name}: {done}")

    async def _remind(self, text: str) -> None:
        while True:
            await asyncio.sleep(_REMINDER_SECONDS)
            self.say(text)
