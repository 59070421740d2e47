"""How pytest-xdist spreads the tests over its processes: a file stays whole, and so does a folder with one stack.

Each process has servers of its own (conftest.py), so tests of different processes share nothing but the machine.
"""

from xdist.scheduler import LoadFileScheduling

#: Folders whose files share what is expensive to start.
WHOLE_FOLDERS = ("tests/e2e",)


class ByServers(LoadFileScheduling):
    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return next((folder for folder in WHOLE_FOLDERS if file.startswith(f"{folder}/")), file)
