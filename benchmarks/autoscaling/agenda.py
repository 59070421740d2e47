"""What happens when: events in the order of their times, those of one time in the order they were made."""

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

Event = tuple[float, int, Callable[..., None], tuple[Any, ...]]


class Agenda:
    """The clock and what is still to come."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[Event] = []
        self._made = 0

    def at(self, time: float, act: Callable[..., None], *arguments: Any) -> None:
        """Have `act` called with the arguments at `time`."""
        self._made += 1
        heappush(self._events, (time, self._made, act, arguments))

    def after(self, seconds: float, act: Callable[..., None], *arguments: Any) -> None:
        """Have `act` called so much later."""
        self.at(self.now + seconds, act, *arguments)

    @property
    def next_at(self) -> float:
        """The time of the next event; infinite when nothing is to come."""
        return self._events[0][0] if self._events else float("inf")

    def step(self) -> None:
        """Let the next event happen."""
        self.now, _, act, arguments = heappop(self._events)
        act(*arguments)
