"""Programs that measure; each runs as `python -m benchmarks.<name>` and prints ratios within one run."""
