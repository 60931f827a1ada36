"""`bench check` and `bench doctor`: the contracts of plug-ins, and the state of an installation."""
