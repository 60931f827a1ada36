"""Reads tables that users write (TOML) into typed structures, with one-line errors."""

import re
import typing
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")


class UnknownNameError(ValueError):
    """An unknown name; the message has the nearest known names."""

    def __init__(self, kind: str, name: str, known: Sequence[str]):
        near = get_close_matches(name, known, n=3, cutoff=0.4)
        shown = [*known[:12], "..."] if len(known) > 12 else known
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(shown)}"
        super().__init__(f"unknown {kind} {name!r}; {hint}")


def read_table(what: str, table: Mapping[str, Any], kind: type[T]) -> T:
    """A table of keys as a structure.

    Args:
      what: name of the table for messages, such as "suite mine"; may be empty.
      table: keys and values from TOML or JSON.
      kind: a dataclass or `msgspec.Struct`. Messages describe a field by the `description` of its `msgspec.Meta`.

    Raises:
      UnknownNameError: a key is no field; the message has the nearest fields.
      ValueError: a key is missing, or a value has the wrong type; one line.

    Example:
      >>> class Point(msgspec.Struct):
      ...   x: typing.Annotated[int, msgspec.Meta(ge=0, description="a whole number from 0")]
      >>> read_table("point a", {"x": 3}, Point)
      Point(x=3)
      >>> read_table("point a", {"x": "3"}, Point)
      Traceback (most recent call last):
        ...
      ValueError: point a: expected x to be a whole number from 0, got '3'
    """
    hints = typing.get_type_hints(kind, include_extras=True)
    for key in table:
        if key not in hints:
            raise UnknownNameError(f"key of {what}" if what else "key", key, list(hints))
    try:
        return msgspec.convert(table, kind)
    except msgspec.ValidationError as error:
        raise ValueError(f"{what}: " * bool(what) + _in_words(str(error), table, hints)) from None


def _in_words(message: str, table: Mapping[str, Any], hints: Mapping[str, Any]) -> str:
    """A message of msgspec about a table, with the descriptions of its fields."""
    if missing := re.search(r"missing required field `(\w+)`$", message):
        return f"expected a non-empty {missing[1]!r}"
    at = re.search(r"at `\$\.(\w+)(.*)`$", message)
    expected = _description(hints[at[1]]) if at else None
    if at is None or expected is None:
        return message
    name, value = at[1], table[at[1]]
    if value in ([], (), ""):
        return f"expected a non-empty {name!r}"
    return f"expected {name} to be {expected}" + (f": {message}" if at[2] else f", got {value!r}")


_PLAIN = {str: "text", bool: "true or false", int: "a whole number", float: "a number"}


def _description(hint: Any) -> str | None:
    """What a field expects, in words."""
    for part in (hint, *typing.get_args(hint)):
        for meta in getattr(part, "__metadata__", ()):
            if isinstance(meta, msgspec.Meta) and meta.description:
                return meta.description
    return _PLAIN.get(hint)
