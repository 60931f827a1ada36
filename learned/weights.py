"""Shipped weights: safetensors with a card in their metadata. Parsed as data only, never pickle.

A checkpoint is a contract: it names the features it was trained with, so that a later change of a design cannot
silently reinterpret it.
"""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

import tasks
from learned.base import Theta
from learned.designs import FEATURES_VERSIONS, theta_shapes
from tasks.files import SAFE_NAME

WEIGHTS_DIR = Path(__file__).parent / "weights"
# Weights that others began from, or that a measurement is made with: kept so that both can be made again, and known by
# name, but no optimizers to take home.
INTERMEDIATE = "intermediate"
FORMAT = "lopt-bench-theta-1"


@dataclasses.dataclass(frozen=True)
class Card:
    """What theta is and how it was made.

    Attributes:
      name: of the optimizer.
      design: row of `learned.designs.DESIGNS`, and design_options its keyword arguments.
      outer_training: the configuration that made theta.
      facts: cost, outer-validation loss, data digest, commit.
      features: version of the design's inputs.
    """

    name: str
    design: str
    design_options: dict[str, float]
    outer_training: dict[str, Any]
    facts: dict[str, Any]
    features: str = ""


def save_bytes(theta: Theta, card: Card) -> bytes:
    """Theta and card as the bytes of a safetensors file."""
    card = dataclasses.replace(card, features=FEATURES_VERSIONS[card.design])
    text = json.dumps(dataclasses.asdict(card), sort_keys=True)
    metadata = {"format": FORMAT, "card": text, "sha256": _checksum(theta, text)}
    return save({name: np.ascontiguousarray(array, np.float32) for name, array in theta.items()}, metadata)


def digest(theta: Theta) -> str:
    """SHA-256 of all weights, leaf by leaf in the order of their names: says that two thetas are the same."""
    leaves = (np.ascontiguousarray(theta[name], np.float32).tobytes() for name in sorted(theta))
    return hashlib.sha256(b"".join(leaves)).hexdigest()


def _checksum(theta: Theta, card: str) -> str:
    return hashlib.sha256(f"{digest(theta)}{card}".encode()).hexdigest()


def shipped_names() -> list[str]:
    """Names of the optimizers that ship with the package."""
    return sorted(path.stem for path in WEIGHTS_DIR.glob("*.safetensors"))


def known_names() -> list[str]:
    """Names that `read` takes: of the optimizers that ship, then of intermediate weights."""
    return list(_known_files())


def _known_files() -> dict[str, Path]:
    """Name -> file, of the optimizers that ship, then of intermediate weights."""
    folders = (WEIGHTS_DIR, WEIGHTS_DIR / INTERMEDIATE)
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.safetensors"))}


def read(name_or_path: str | Path) -> tuple[Theta, Card]:
    """Theta and card, by one of `known_names` or by a path that ends in .safetensors.

    Raises:
      tasks.UnknownNameError: no such name.
      ValueError: a file that is not such weights, or of other features than the design now has; one line.
    """
    path = Path(name_or_path)
    if path.suffix != ".safetensors":
        known = _known_files()
        if str(name_or_path) not in known:
            raise tasks.UnknownNameError("learned optimizer", str(name_or_path), list(known))
        path = known[str(name_or_path)]
    if not path.is_file():
        raise ValueError(f"{str(path)!r}: no such weights file")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            theta = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping: it has no __iter__)
        card = Card(**json.loads(metadata["card"]))
        _check(card)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected weights written by `bench outer-train`, got {error!r}") from None
    if metadata.get("format") != FORMAT or card.features != FEATURES_VERSIONS.get(card.design):
        have = FEATURES_VERSIONS.get(card.design)
        raise ValueError(f"{path}: made for features {card.features} of design {card.design}, this version has {have}")
    if metadata.get("sha256") != _checksum(theta, metadata["card"]):
        raise ValueError(f"{path}: not as it was written, the checksum does not fit: restore the file")
    try:
        made = theta_shapes(card.design, card.design_options)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: options {card.design_options} do not make {card.design}: {error}") from None
    want, got = ({name: leaf.shape for name, leaf in sorted(tree.items())} for tree in (made, theta))
    if want != got:
        raise ValueError(f"{path}: expected {_shapes(want)}, got {_shapes(got)}")
    for name, leaf in theta.items():
        if leaf.dtype != np.float32 or not np.isfinite(leaf).all():
            raise ValueError(f"{path}: expected finite float32 for {name}, got {leaf.dtype}, some of it not finite")
    return theta, card


def _check(card: Card) -> None:
    """Raises ValueError where a field of a card is of another kind."""
    for field in dataclasses.fields(card):
        value = getattr(card, field.name)
        if not isinstance(value, str if field.type in (str, "str") else dict):
            raise ValueError(f"a card whose {field.name} is {value!r}")
    if not SAFE_NAME.fullmatch(card.name):
        raise ValueError(f"a card whose name is {card.name!r}")
    if not all(isinstance(value, int | float) for value in card.design_options.values()):
        raise ValueError(f"a card whose design_options are {card.design_options!r}")


def read_beginning(card_of: str, design: str, design_options: dict[str, float]) -> tuple[Theta, dict[str, Any]]:
    """Theta for outer-training to begin from, and where it comes from: its digest, and all of its card.

    Args:
      card_of: name or path of the weights.
      design: that it is wanted for.
      design_options: of that design. They need not be those of the card, where theta has a place in them: a scale of
        the step is chosen anew at another size.

    Raises:
      ValueError: as `read` does, or weights of another design or other shapes; one line.
    """
    theta, card = read(card_of)
    shapes = [leaf.shape for leaf in theta_shapes(design, design_options).values()]
    if card.design != design or [leaf.shape for leaf in theta.values()] != shapes:
        raise ValueError(
            f"begin_from {card_of}: expected weights of {design} with options {design_options}, "
            f"got {card.design} with {card.design_options}"
        )
    return theta, {"theta_sha256": digest(theta), **dataclasses.asdict(card)}


def _shapes(shapes: dict[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {shape}" for name, shape in shapes.items())
