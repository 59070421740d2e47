"""The ingress: from a client's request to a durable job."""
