"""How pytest-xdist spreads the tests over its processes: a file stays whole, and so do those that share much.

Each process has servers of its own (conftest.py), so tests of different processes share nothing but the machine.
"""

from xdist.scheduler import LoadFileScheduling

#: How the names of files begin that share a stack, the builds of deploy/k8s, the environments of images.
TOGETHER = ("tests/e2e/", "tests/contract/test_deploy", "tests/contract/test_lean")


class ByServers(LoadFileScheduling):
    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return next((beginning for beginning in TOGETHER if file.startswith(beginning)), file)
