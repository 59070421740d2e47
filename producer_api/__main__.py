"""`python -m producer_api`: the service, configured by the environment, until SIGTERM."""

import sys

from docfleet.service import run_service
from producer_api.app import run
from producer_api.settings import ProducerSettings

if __name__ == "__main__":
    sys.exit(run_service(ProducerSettings, run))
