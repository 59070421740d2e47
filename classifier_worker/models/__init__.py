"""Torch lives here only: the model bundle and the thread that runs it."""
