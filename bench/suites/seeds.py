"""Seeds: reporting seeds are below the first tuning seed (protocol rule 5)."""

from collections.abc import Sequence

from bench.errors import UsageError

FIRST_TUNING_SEED = 1000


def parse_seeds(text: str | Sequence[int] | int) -> tuple[int, ...]:
    """Seeds from "0-4", "0,2,5-7", a number or a list of numbers.

    Raises:
      UsageError: the text has another form, or a seed is 1000 or more, which is for tuning (protocol rule 5).
    """
    expected = UsageError(f"expected seeds like 0-4 or 0,2,5, below {FIRST_TUNING_SEED}, got {text!r}")
    parts = [str(item) for item in text] if isinstance(text, list | tuple) else str(text).split(",")
    seeds: list[int] = []
    for part in parts:
        low, dash, high = part.strip().partition("-")
        if not (low.isdecimal() and (high.isdecimal() if dash else not high)) or len(low) > 4 or len(high) > 4:
            raise expected
        seeds += range(int(low), int(high if dash else low) + 1)
    if not seeds or max(seeds) >= FIRST_TUNING_SEED:
        raise expected
    return tuple(dict.fromkeys(seeds))
