"""Tenants take turns: one item of each in the order in which they came, so that no backlog is in another's way.

Pure; the caller locks.
"""

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Turns(Generic[Item]):
    """Items by tenant. A tenant's own items keep their order."""

    def __init__(self) -> None:
        self._queues: OrderedDict[str, deque[Item]] = OrderedDict()

    def __len__(self) -> int:
        return sum(len(queue) for queue in self._queues.values())

    def put(self, tenant: str, item: Item) -> None:
        """Add an item behind the tenant's others."""
        self._queues.setdefault(tenant, deque()).append(item)

    def put_back(self, tenant: str, item: Item) -> None:
        """Undo a `take`: the item is the next one again."""
        self._queues.setdefault(tenant, deque()).appendleft(item)
        self._queues.move_to_end(tenant, last=False)

    def take(self) -> Item:
        """Return the next item; its tenant goes to the end of the line. IndexError when there is none."""
        if not self._queues:
            raise IndexError("nobody waits")
        tenant, queue = next(iter(self._queues.items()))
        item = queue.popleft()
        if queue:
            self._queues.move_to_end(tenant)
        else:
            del self._queues[tenant]
        return item

    def keep(self, wanted: Callable[[Item], bool]) -> None:
        """Drop the items that are not wanted any more."""
        for tenant, queue in list(self._queues.items()):
            kept = deque(item for item in queue if wanted(item))
            if kept:
                self._queues[tenant] = kept
            else:
                del self._queues[tenant]
