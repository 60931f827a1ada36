"""Timed training: compiled programs, runs, interleaved timing blocks, races (protocol rules 6, 7 and 9)."""
