"""The local stack: every server and service that `docfleet up` runs, without Docker."""
