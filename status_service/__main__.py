"""`python -m status_service`: the service, configured by the environment, until SIGTERM."""

import sys

from docfleet.service import run_service
from status_service.app import run
from status_service.settings import StatusSettings

if __name__ == "__main__":
    sys.exit(run_service(StatusSettings, run))
