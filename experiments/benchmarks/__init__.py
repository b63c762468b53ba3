"""Benchmarks that time alternatives side by side in one run: `python -m experiments.benchmarks.NAME`."""
