"""Outer-training as a command: running, publishing and repeating it, and what it costs."""
