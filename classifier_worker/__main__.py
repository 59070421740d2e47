"""`python -m classifier_worker`: the service, configured by the environment, until SIGTERM."""

import sys

from classifier_worker.settings import WorkerSettings
from classifier_worker.worker import run
from docfleet.service import run_service

if __name__ == "__main__":
    sys.exit(run_service(WorkerSettings, run))
