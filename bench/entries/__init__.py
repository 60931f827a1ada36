"""The optimizers that take part: hand-designed, learned, controls, and those of plug-ins."""
