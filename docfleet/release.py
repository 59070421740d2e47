"""Which docfleet this is."""

from importlib.metadata import PackageNotFoundError, version


def release() -> str:
    """Return the installed version; `unknown` in a folder that was never installed."""
    try:
        return version("docfleet")
    except PackageNotFoundError:
        return "unknown"
