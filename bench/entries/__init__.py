"""Who takes part: hand-designed and learned optimizers, controls, and what plug-ins add."""
