"""How pytest-xdist spreads the tests over its processes: a file stays whole, and so do those that share much.

Each process has servers of its own (conftest.py), so tests of different processes share nothing but the machine.
"""

from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

#: How the names of files begin that share a stack, the builds of deploy/k8s, the environments of images.
TOGETHER = ("tests/e2e/", "tests/contract/test_deploy", "tests/contract/test_lean")
#: What takes minutes is begun with, so that no process is left with it at the end.
FIRST = ("tests/e2e/", "tests/chaos/", "tests/contract/test_consume_port.py", "tests/integration/worker/")


class ByServers(LoadFileScheduling):
    def __init__(self, config: pytest.Config, log: Any) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False  # the order is ours

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return next((beginning for beginning in TOGETHER if file.startswith(beginning)), file)


def longest_first(item: pytest.Item) -> int:
    """Return the key that sorts tests; those that it does not tell apart keep their order."""
    return next((place for place, start in enumerate(FIRST) if item.nodeid.startswith(start)), len(FIRST))
