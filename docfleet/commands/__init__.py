"""The subcommands of `docfleet` that talk to a running system."""
