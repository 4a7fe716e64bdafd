"""Faults of hardware as readings, and the training of degradation indexes."""
