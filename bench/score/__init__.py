"""Scores computed from stored rows: times, speed-ups, losses, controls, races and the verdict."""
