"""Tests. Other distributions install a package `tests`, torch-fidelity's for one, which would hide a mere folder."""
