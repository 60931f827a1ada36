"""Stored results: cells with their records, published results, and the rows that scores are computed from."""
