"""Cells and curves of designs, by hand."""

import json

import numpy as np
import pandas as pd

from bench.measure import designs


def designs_by_hand(parts):
    """Cells and curves of orthogonal, lean_mlp_8, lean_mlp_16; `parts`, those that are finished, the others failed."""
    config = json.dumps({"measurement": "designs", "num_weights": 7})
    names = [
        f"{name}/{which}"
        for name in ("orthogonal", "lean_mlp_8", "lean_mlp_16")
        for which in ("cost", "compile", *designs.OUTER_ON)
    ]
    cells = [(part, f"designs/{part}", "ok" if part in parts else "error", config) for part in names]
    adam = np.array([1e-6, 2e-6, 1e-6, 2e-6, 1e-6, 2e-5])  # within blocks the ratios are always 3 and 2
    curve = []
    for part in parts:
        name, _, which = part.partition("/")
        if which in designs.OUTER_ON:
            curve += [(part, step, "outer_validation_loss", loss) for step, loss in ((20, 1.1), (0, 1.5), (10, 0.9))]
            curve += [(part, 0, "inner_steps", 400)]
            continue
        if which == "compile":
            for timed, seconds in (("adam", [2.0, 4.0, 1.0]), ("muon", [4.0, 2.0, 2.0]), (name, [6.0, 12.0, 9.0])):
                curve += [(part, k, f"compile_seconds/{timed}", value) for k, value in enumerate(seconds)]
            continue
        curve += [(part, 0, f"{tree}/bytes_per_parameter/{name}", 16.0) for tree in designs.TREES]
        for factor, places in (
            (3, [f"{tree}/update_seconds" for tree in designs.TREES]),
            (2, [f"step_seconds/{family}" for family in designs.STEPS_ON]),
        ):
            curve += [(part, k, f"{place}/adam", s) for place in places for k, s in enumerate(adam)]
            curve += [(part, k, f"{place}/{name}", factor * s) for place in places for k, s in enumerate(adam)]
    return (
        pd.DataFrame(cells, columns=["cell", "task", "status", "config"]),
        pd.DataFrame(curve, columns=["cell", "step", "metric", "value"]),
    )
