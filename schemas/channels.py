"""The NOTIFY channels of Postgres between services."""

from typing import Final

#: status_service says here which jobs changed; a payload is job ids with a space between them.
JOBS_CHANNEL: Final = "docfleet_jobs"
