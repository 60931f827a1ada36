"""`bench list` and `bench info`."""

import json


def test_list_and_info_print_data(bench):
    rows = json.loads(bench("list", "tasks", "--json")[1])
    paper = next(row for row in rows if row["name"] == "imagenet32_cnn3/0")
    assert (paper["num_params"], paper["horizon"], paper["batch_size"]) == (19722, 2000, 32)
    assert {"chance_loss", "digest"} <= paper.keys()
    optimizers = json.loads(bench("list", "optimizers", "--json")[1])
    assert {"adam", "adam_cosine", "rmsprop", "sgd_momentum"} <= {row["name"] for row in optimizers}
    assert {row["name"] for row in json.loads(bench("list", "suites", "--json")[1])} >= {"quick", "paper", "ood"}
    for name in ("digits8_mlp", "imagenet32_cnn3", "adam", "learned", "paper"):
        assert json.loads(bench("info", name, "--json")[1])
    assert "19722" in bench("info", "imagenet32_cnn3")[1]
