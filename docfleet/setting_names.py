"""The DOCFLEET_ variables of every service.

The services of one fleet often share one environment, so another service's setting is no typing
error; anything else that starts with DOCFLEET_ is. No service may be imported here, so the names
stand in a list, and tests/contract/test_docs.py holds the list to the services' settings.
"""

from typing import Final

KNOWN_VARIABLES: Final = frozenset(
    {
        "DOCFLEET_BUCKET",
        "DOCFLEET_DATABASE_POOL_SIZE",
        "DOCFLEET_HTTP_HOST",
        "DOCFLEET_HTTP_PORT",
        "DOCFLEET_LOG_LEVEL",
        "DOCFLEET_OBJECT_TIMEOUT_SECONDS",
        "DOCFLEET_STOP_DEADLINE_SECONDS",
    }
)
