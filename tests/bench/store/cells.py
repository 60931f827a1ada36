"""A cell by hand: its record and its curve."""

import pandas as pd

from bench.store.record import Record, Result, Status


def record(cell="0123456789abcdef", started_at="2026-01-01T00:00:00+00:00", **config):
    config = {"kind": "train", "suite": "s", "task": "t", "family": "t", "optimizer": "adam", "seed": 0} | config
    result = Result(final_test_loss=0.25)
    return Record(cell=cell, config=config, status=Status.OK, result=result, started_at=started_at, provenance={})


def curve(cell="0123456789abcdef"):
    return pd.DataFrame({"cell": cell, "step": [0, 1], "metric": "test_loss", "value": [2.0, 0.25]})
