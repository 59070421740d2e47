"""How every service's process begins and ends: settings, run, exit code."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from docfleet import fault_points
from docfleet.settings import InvalidSettings, Settings

Checked = TypeVar("Checked", bound=Settings)

EXIT_WRONG_SETTINGS: Final = 2


def run_service(settings_type: type[Checked], run: Callable[[Checked], Coroutine[Any, Any, int]]) -> int:
    """Run a service with the environment's settings and return its exit code; 2 when they are wrong."""
    try:
        settings = settings_type.from_environment()
    except InvalidSettings as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_WRONG_SETTINGS
    fault_points.arm(settings.fault_at)
    return asyncio.run(run(settings))
