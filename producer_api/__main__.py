"""`python -m producer_api`: the service, configured by the environment, until SIGTERM."""

import asyncio
import sys

from docfleet.settings import InvalidSettings
from producer_api.app import serve
from producer_api.settings import ProducerSettings

if __name__ == "__main__":
    try:
        settings = ProducerSettings.from_environment()
    except InvalidSettings as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)
    sys.exit(asyncio.run(serve(settings)))
