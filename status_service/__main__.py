"""`python -m status_service`: settings from the environment, run, exit code."""

import asyncio
import sys

from docfleet.settings import InvalidSettings
from status_service.app import run
from status_service.settings import StatusSettings

if __name__ == "__main__":
    try:
        settings = StatusSettings.from_environment()
    except InvalidSettings as fault:
        sys.exit(f"status_service cannot start:\n{fault}")
    sys.exit(asyncio.run(run(settings)))
