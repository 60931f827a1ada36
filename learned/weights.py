"""Shipped weights: safetensors with a card in their metadata, read as data only, never pickle.

The card names the version of the features that theta was trained with, so that weights of another version are refused
after a design has changed.
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
# Weights that initialized others, or that a measurement uses. They are kept so that both can be reproduced, and known
# by name, but they are not shipped as optimizers.
INTERMEDIATE = "intermediate"
FORMAT = "lopt-bench-theta-1"


@dataclasses.dataclass(frozen=True)
class Card:
    """The origin of a theta.

    Attributes:
      name: name of the optimizer.
      design: row of `learned.designs.DESIGNS`.
      design_options: keyword arguments of the design.
      outer_training: the configuration of outer-training.
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
    """SHA-256 of all weights, leaf by leaf in the order of their names; identifies a theta."""
    leaves = (np.ascontiguousarray(theta[name], np.float32).tobytes() for name in sorted(theta))
    return hashlib.sha256(b"".join(leaves)).hexdigest()


def _checksum(theta: Theta, card: str) -> str:
    return hashlib.sha256(f"{digest(theta)}{card}".encode()).hexdigest()


def shipped_names() -> list[str]:
    """Names of the optimizers that ship with the package."""
    return sorted(path.stem for path in WEIGHTS_DIR.glob("*.safetensors"))


def known_names() -> list[str]:
    """Names that `read` accepts: shipped optimizers, then intermediate weights."""
    return list(_known_files())


def _known_files() -> dict[str, Path]:
    """Name -> file, for shipped optimizers, then intermediate weights."""
    folders = (WEIGHTS_DIR, WEIGHTS_DIR / INTERMEDIATE)
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.safetensors"))}


def read(name_or_path: str | Path) -> tuple[Theta, Card]:
    """Theta and card, by one of `known_names` or by a path that ends in .safetensors.

    Raises:
      tasks.UnknownNameError: the name is unknown.
      ValueError: the file holds no such weights, or weights for another version of the features; one line.
    """
    if not isinstance(name_or_path, str | Path):
        raise ValueError(f"expected the name or the path of weights, got {name_or_path!r}")
    path = Path(name_or_path).expanduser()
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
    """Raises ValueError where a field of a card has the wrong type."""
    for field in dataclasses.fields(card):
        value = getattr(card, field.name)
        if not isinstance(value, str if field.type in (str, "str") else dict):
            raise ValueError(f"a card whose {field.name} is {value!r}")
    if not SAFE_NAME.fullmatch(card.name):
        raise ValueError(f"a card whose name is {card.name!r}")
    if not all(isinstance(value, int | float) for value in card.design_options.values()):
        raise ValueError(f"a card whose design_options are {card.design_options!r}")


def read_beginning(card_of: str, design: str, design_options: dict[str, float]) -> tuple[Theta, dict[str, Any]]:
    """Theta that initializes outer-training, and its origin: its digest and card.

    Args:
      card_of: name or path of the weights.
      design: the design that is outer-trained.
      design_options: its options. They may differ from the card's where theta has the same shapes, since a step scale
        is chosen again for another image size.

    Raises:
      ValueError: as `read`, or the weights have another design or other shapes; one line.
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
