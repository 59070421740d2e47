"""Simulates a day of bursty load on a fleet that an autoscaler runs. See `__main__`."""
