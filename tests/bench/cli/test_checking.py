"""`bench doctor`."""

import json


def test_doctor_says_what_to_do(bench, monkeypatch):
    code, out, _ = bench("doctor", "--json")
    rows = {row["check"]: row for row in json.loads(out)}
    assert code == 0
    assert "tfds build" in rows["data imagenet32"]["remedy"]
    assert rows["data digits8"]["status"] == "ok"
