"""How pytest-xdist spreads the tests over its processes: a file stays whole, and so does a folder with one stack.

Each process has servers of its own (conftest.py), so tests of different processes share nothing but the machine.
"""

from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

#: Folders whose files share what is expensive to start.
WHOLE_FOLDERS = ("tests/e2e",)
#: What takes minutes is begun with, so that no process is left with it at the end.
FIRST = ("tests/e2e/", "tests/chaos/", "tests/contract/test_consume_port.py", "tests/integration/worker/")


class ByServers(LoadFileScheduling):
    def __init__(self, config: pytest.Config, log: Any) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False  # the order is ours

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return next((folder for folder in WHOLE_FOLDERS if file.startswith(f"{folder}/")), file)


def longest_first(item: pytest.Item) -> int:
    """Return the key that sorts tests; those that it does not tell apart keep their order."""
    return next((place for place, start in enumerate(FIRST) if item.nodeid.startswith(start)), len(FIRST))
