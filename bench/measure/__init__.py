"""Named measurements: what a claim about the machinery itself rests on, each a module that prints its figures."""
