"""Measures the production towers on a GPU, through the worker's own engine. See `__main__`."""
