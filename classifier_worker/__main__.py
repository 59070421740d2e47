"""`python -m classifier_worker`: settings from the environment, run, exit code."""

import asyncio
import sys

from classifier_worker.settings import WorkerSettings
from classifier_worker.worker import run
from docfleet.settings import InvalidSettings

if __name__ == "__main__":
    try:
        settings = WorkerSettings.from_environment()
    except InvalidSettings as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)
    sys.exit(asyncio.run(run(settings)))
