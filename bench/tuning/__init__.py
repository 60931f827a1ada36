"""Tuned hyperparameters and frozen targets, both fixed before the comparison (protocol rules 1 and 10)."""
