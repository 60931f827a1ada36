"""Weights of others: where they lie, what is no such file, and what is said of them."""

import re

import numpy as np
import pytest
from safetensors.numpy import save_file

from learned import elsewhere
from learned.elsewhere import ELSEWHERE
from tasks import data
from tests.helpers import REPOSITORY, assert_one_line


def save_example(folder, name, **changed):
    """Weights of the right shapes in a folder of weights, with some arrays changed or, where None, left out."""
    rng = np.random.default_rng(0)
    theta = {key: rng.normal(size=shape).astype(np.float32) for key, shape in ELSEWHERE[name].shapes.items()}
    path = elsewhere.path_of(name, folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: leaf for key, leaf in {**theta, **changed}.items() if leaf is not None}, path)
    return path


@pytest.mark.parametrize("name", ELSEWHERE)
def test_weights_are_read_as_they_were_saved(tmp_path, name):
    save_example(tmp_path, name)
    theta = elsewhere.read(name, tmp_path)
    assert {key: leaf.shape for key, leaf in theta.items()} == ELSEWHERE[name].shapes
    assert not elsewhere.is_published(name, theta)


def test_the_rules_have_as_many_weights_as_was_published():
    sizes = {name: sum(int(np.prod(shape)) for shape in row.shapes.values()) for name, row in ELSEWHERE.items()}
    assert sizes == {"celo": 37_089, "celo_adam": 36_865, "sinv6": 36_865}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"lstm_init_state/cell": None}, "expected the 12 arrays of sinv6, it lacks 'lstm_init_state/cell'"),
        ({"more": np.zeros(1, np.float32)}, "expected the 12 arrays of sinv6, it has in addition 'more'"),
        (
            {"lstm_init_state/cell": np.zeros((64, 1), np.float32)},
            r"expected finite float32 \(1, 64\) for lstm_init_state/cell of sinv6, got float32 \(64, 1\)",
        ),
        ({"lstm_init_state/cell": np.zeros((1, 64))}, r"cell of sinv6, got float64 \(1, 64\)"),
        ({"lstm_init_state/cell": np.full((1, 64), np.nan, np.float32)}, "cell of sinv6, got numbers that are not"),
    ],
)
def test_a_file_of_other_arrays_is_one_line(tmp_path, changed, words):
    save_example(tmp_path, "sinv6", **changed)
    with pytest.raises(ValueError, match=words) as caught:
        elsewhere.read("sinv6", tmp_path)
    assert_one_line(caught.value)


@pytest.mark.parametrize("content", [b"", b"no weights", b"\x10\0\0\0\0\0\0\0{}", b"\x02\0\0\0\0\0\0\0{}"])
def test_a_file_that_is_none_is_one_line(tmp_path, content):
    path = save_example(tmp_path, "celo")
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"expected the (weights|33 arrays) of celo") as caught:
        elsewhere.read("celo", tmp_path)
    assert_one_line(caught.value)


def test_weights_that_are_not_there_are_one_line_with_what_to_do(tmp_path):
    with pytest.raises(ValueError, match=r"celo do not ship, and .* is no file: `bench prepare celo` says") as caught:
        elsewhere.read("celo", tmp_path)
    assert_one_line(caught.value)


def test_the_folder_is_the_variables_or_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv(elsewhere.VARIABLE, raising=False)
    assert elsewhere.default_folder() == tmp_path / "cache" / "weights"
    assert elsewhere.default_folder(tmp_path / "other") == tmp_path / "other" / "weights"
    monkeypatch.setenv(elsewhere.VARIABLE, str(tmp_path / "mine"))
    assert elsewhere.default_folder(tmp_path / "other") == tmp_path / "mine"


def test_the_page_has_every_row_and_its_example_runs(tmp_path, monkeypatch):
    page = (REPOSITORY / "docs" / "elsewhere.md").read_text()
    assert re.findall(r"^\| `(\w+)` \|", page.partition("\n## ")[0], flags=re.M) == list(ELSEWHERE)
    (code,) = re.findall(r"```python\n(.*?)```", page, flags=re.S)
    save_example(tmp_path / "weights", "celo")
    monkeypatch.chdir(tmp_path)
    scope = {}
    exec(code, scope)
    assert scope["optimizer"].init({"w": np.ones(3, np.float32)}).horizon == 1000


@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_row_says_where_its_weights_come_from_and_what_they_saw(name):
    row, said = ELSEWHERE[name], "\n".join(elsewhere.origin(name))
    assert all(part in said for part in (*row.source, row.source_sha256, row.licence, row.reference, elsewhere.FILE))
    assert set(row.data_sets or ()) <= set(data.DATA_SETS)
    if row.data_sets:
        assert "Training images of MNIST and CIFAR-10 at 8x8 were seen." in row.outer_training
