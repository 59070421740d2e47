"""Shows what the stack does while it does it, on stderr: stdout is for the ready line alone."""

import asyncio
import contextlib
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Final, TypeVar

Result = TypeVar("Result")

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


async def in_thread(work: Callable[[], Result]) -> Result:
    """Run blocking work beside the loop; unlike `asyncio.to_thread`, work that hangs does not keep Ctrl-C waiting."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = loop.create_future()

    def finish(result: Result | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]  # None is a Result when there is no error

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except BaseException as raised:  # handed on to whoever waits
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(finish, result, error)

    threading.Thread(target=run, daemon=True).start()
    return await future
