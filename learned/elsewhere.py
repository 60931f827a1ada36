"""Published learned optimizers of others: a literal table, name -> rule, shapes, and where the weights come from.

Their weights do not ship. They are read as data only, float32 safetensors, from DIR/NAME/theta.safetensors, where DIR
is what the user gives, else the folder `weights` of the cache.
"""

import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optax
from safetensors import SafetensorError
from safetensors.numpy import load_file

from learned import celo
from learned.base import Theta
from learned.weights import digest
from tasks.data import default_cache_dir

FILE, LICENCE_FILE = "theta.safetensors", "LICENSE"
CACHED = "weights"  # folder of the cache
VARIABLE = "BENCH_WEIGHTS_DIR"


@dataclasses.dataclass(frozen=True)
class Elsewhere:
    """A learned optimizer that others have outer-trained.

    Attributes:
      make: (theta, horizon) -> optax transformation, pure in theta.
      shapes: of theta, name -> shape.
      reference: where it was published.
      outer_trained_on: the tasks of outer-training, in short.
      outer_training: all that is known of it, as published.
      data_sets: rows of `tasks.data.DATA_SETS` whose training images outer-training saw; None where that is not known.
      source: repository, commit and path of the original file.
      source_sha256: of the original file.
      licence: of the weights, with its copyright line.
      theta_sha256: digest of the converted weights (`learned.weights.digest`).
    """

    make: Callable[[Theta, Any], optax.GradientTransformationExtraArgs]
    shapes: Mapping[str, tuple[int, ...]]
    reference: str
    outer_trained_on: str
    outer_training: str
    data_sets: tuple[str, ...] | None
    source: tuple[str, str, str]
    source_sha256: str
    licence: str
    theta_sha256: str


CELO_REPOSITORY, CELO_COMMIT = "https://github.com/amoudgl/celo", "66d976116f39da286951f0c5e0a18eee8d1fd66b"
MIT_LICENCE = "MIT, Copyright (c) 2025 Abhinav Moudgil"
FOUR_TASKS = "MNIST, Fashion-MNIST, CIFAR-10 and SVHN at 8x8"
SEEN = "Training images of MNIST and CIFAR-10 at 8x8 were seen. Horizons beyond 2,000 steps are extrapolation."

ELSEWHERE: dict[str, Elsewhere] = {
    "celo": Elsewhere(
        make=celo.celo,
        shapes=celo.CELO_SHAPES,
        reference="Celo, Moudgil et al., arXiv 2501.12670",
        outer_trained_on=FOUR_TASKS,
        outer_training=f"{FOUR_TASKS}, the last two in grey: an MLP with one hidden layer of 32 ReLU units, batch 64, "
        "its parameters scaled by a factor for each task, log-uniform from 0.001 to 1000. PES, truncation 50, unrolls "
        "of 100 to 2,000 steps, log-uniform. Two phases of 100,000 outer steps at rate 3e-4: first the MLP alone, then "
        f"the schedule. That this gave the file is its authors' word. {SEEN}",
        data_sets=("mnist28", "cifar10"),
        source=(CELO_REPOSITORY, CELO_COMMIT, "algoperf/submissions/celo/theta.state"),
        source_sha256="35683c6123069c101d62ec1f8b2e6d70d50a43e67ebe09953b27620a7dcb836b",
        licence=MIT_LICENCE,
        theta_sha256="db79148b00732a81b75e143e484fbeb533d02f6ee1d0d96b5abcce75e2ae42bb",
    ),
    "celo_adam": Elsewhere(
        make=celo.celo_adam,
        shapes=celo.SCHEDULE_SHAPES,
        reference="Celo-Adam, Moudgil et al., arXiv 2501.12670",
        outer_trained_on=FOUR_TASKS,
        outer_training=f"Of the paper and the repository of celo, whose tasks are {FOUR_TASKS}; that these are its own "
        f"too is assumed here. Its authors found it the steadier of the two on AlgoPerf. {SEEN}",
        data_sets=("mnist28", "cifar10"),
        source=(CELO_REPOSITORY, CELO_COMMIT, "algoperf/submissions/celo_adam/theta.state"),
        source_sha256="99c65fa0218a739c32eac4e8a99523b6fed92e2926d0c5d64e83835637b75d38",
        licence=MIT_LICENCE,
        theta_sha256="01dd7f02d49b8791553f695a40711cfc4ef9a8774081df0841d1e84ebc6e8eb8",
    ),
    "sinv6": Elsewhere(
        make=celo.sinv6,
        shapes=celo.SCHEDULE_SHAPES,
        reference="Sinv6, Moudgil, self-tuning entry to AlgoPerf v0.5",
        outer_trained_on="small tasks that are not named",
        outer_training="Small tasks, as its submission says, which names none of them and has no recipe.",
        data_sets=None,
        source=(
            "https://github.com/mlcommons/submissions_algorithms",
            "12c8e4ea93dc41a1ff6abc3debba9accd8ac1e3a",
            "previous_leaderboards/algoperf_v05/submissions/self_tuning/sinv6/theta.state",
        ),
        source_sha256="d5a2902ebfbe51c5083607fb3fbc94b9e00bd4d044bbe72e0781fcc1e8502588",
        licence="Apache-2.0",
        theta_sha256="ed2e725c21e7113f095affcb1c808850d5392bda5dad675269899aee849aa25f",
    ),
}


def default_folder(cache_dir: Path | None = None) -> Path:
    """BENCH_WEIGHTS_DIR, else the folder `weights` of the cache."""
    if os.environ.get(VARIABLE):
        return Path(os.environ[VARIABLE]).expanduser()
    return (cache_dir or default_cache_dir()) / CACHED


def path_of(name: str, folder: Path) -> Path:
    """Where the weights of a row of `ELSEWHERE` lie in a folder of weights."""
    return folder / name / FILE


def read(name: str, folder: Path) -> Theta:
    """The weights of a row of `ELSEWHERE`: name -> array.

    Args:
      name: of the row.
      folder: of weights.

    Raises:
      ValueError: there is no such file, or it holds no such weights; one line.
    """
    path, shapes = path_of(name, folder), ELSEWHERE[name].shapes
    if not path.is_file():
        raise ValueError(
            f"the weights of {name} do not ship, and {path} is no file: "
            f"`bench prepare {name}` says where they come from; name their folder by --weights-dir or {VARIABLE}"
        )
    try:
        theta = load_file(path)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        said = " ".join(str(error).split())
        raise ValueError(f"{path}: expected the weights of {name} as safetensors, got a file with: {said}") from None
    for key in (*shapes, *theta):
        if key not in theta or key not in shapes:
            what = "lacks" if key in shapes else "has in addition"
            raise ValueError(f"{path}: expected the {len(shapes)} arrays of {name}, it {what} {key!r}")
    for key, leaf in theta.items():
        expected, found = (np.dtype(np.float32), shapes[key]), (leaf.dtype, leaf.shape)
        if found != expected or not np.isfinite(leaf).all():
            got = f"{leaf.dtype} {leaf.shape}" if found != expected else "numbers that are not"
            raise ValueError(f"{path}: expected finite float32 {shapes[key]} for {key} of {name}, got {got}")
    return theta


def is_published(name: str, theta: Theta) -> bool:
    """Whether weights are those that the row is about, so that what it says of their origin is true of them."""
    return digest(theta) == ELSEWHERE[name].theta_sha256


def origin(name: str) -> list[str]:
    """Where the weights of a row come from and how they are made what is read here, as lines."""
    row = ELSEWHERE[name]
    repository, commit, path = row.source
    return [
        f"{name}: {row.reference}. Its weights are its authors', and do not ship.",
        f"from: {repository} at commit {commit}, {path}",
        f"licence: {row.licence}; a copy travels with its LICENSE",
        f"sha256 of that file: {row.source_sha256}",
        'conversion: it is msgpack of flax, a nested dict. Join the keys by "/", and save the arrays, float32 as they '
        f"are, as safetensors to DIR/{name}/{FILE}, with {LICENCE_FILE} beside it",
    ]
