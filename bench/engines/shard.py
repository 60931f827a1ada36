"""A shard: the part of the jobs of a command that one job of a queue's array does."""

import dataclasses
import re
from collections.abc import Sequence
from typing import Self, TypeVar

from bench.errors import UsageError

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Shard:
    """Every n-th job of a list, beginning with the k-th.

    Attributes:
      number: k, from 1.
      of: n, the number of shards.

    Example:
      >>> Shard.parse("2/3").part("abcdefg")
      ['b', 'e']
    """

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """The shard of a text like 2/8.

        Raises:
          UsageError: it is no such text, or there is no such shard.
        """
        found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
        number, of = (int(part) for part in found.groups()) if found else (0, 0)
        if not 1 <= number <= of:
            raise UsageError(f"--shard expects K/N with K from 1 to N, like 2/8, got {text!r}")
        return cls(number, of)

    def part(self, jobs: Sequence[T]) -> list[T]:
        """The jobs of this shard. Neighbours, which cost about the same, go to different shards."""
        return list(jobs[self.number - 1 :: self.of])
