"""The worker: from a job to its result event."""
