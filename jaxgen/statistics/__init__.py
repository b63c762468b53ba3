"""Statistics over seeds: intervals, effects and permutation tests."""
