"""Which servers a command talks to: of the --data-dir that is named, else of the environment, else of .docfleet."""

import os
from pathlib import Path
from typing import Final

from docfleet.stack.data_dir import read_stack

DEFAULT_DATA_DIR: Final = Path(".docfleet")


class NotNamed(Exception):
    """Nothing says where a server is; the message says how to name one."""


def address_of(variable: str, *, entry: str, data_dir: Path | None) -> str:
    """Return the address in an environment variable, or in the entry of `stack.json` that stands for it.

    Raises:
        NotNamed: neither is there.

    """
    address = os.environ.get(variable)
    if data_dir is None and address:
        return address
    folder = data_dir or DEFAULT_DATA_DIR
    stack = read_stack(folder)
    if stack is None:
        raise NotNamed(f"no stack ever ran on {folder}; set {variable}, or --data-dir to a stack's data dir")
    return str(stack[entry])
