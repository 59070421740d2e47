"""Kills parts of a running system while it works, and counts what must never happen. See `__main__`."""
