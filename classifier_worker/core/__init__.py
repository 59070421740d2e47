"""Deciding code of the worker: no Kafka, no torch, no clock, no thread."""
