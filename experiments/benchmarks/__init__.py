"""Benchmarks: ratios measured side by side in one run, each command `python -m experiments.benchmarks.NAME`."""
