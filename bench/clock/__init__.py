"""Training and timing under the clock: programs, runs, interleaved blocks, races (protocol rules 6, 7 and 9)."""
