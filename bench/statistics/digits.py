"""Numbers rounded to significant digits, and an estimate with its interval as text."""


def significant(value: float, digits: int = 6) -> float:
    """A number rounded to significant digits, so that every machine writes the same.

    Example:
      >>> significant(1234567.0), significant(0.123456789, 3)
      (1234570.0, 0.123)
    """
    return float(f"{value:.{digits}g}")


def three_digits(value: float) -> str:
    """Three significant digits as text. Zeros at the end are kept: the numbers of a column have the same precision.

    Example:
      >>> three_digits(0.2), three_digits(1.0), three_digits(123.4), three_digits(0.0)
      ('0.200', '1.00', '123', '0')
    """
    return "0" if value == 0 else f"{value:#.3g}".removesuffix(".")


def estimate_text(
    estimate: float, low: float | None, high: float | None, *, bound: bool = False, limit: float | None = None
) -> str:
    """An estimate and its interval to three digits; an upper bound without an interval, after "<".

    Args:
      estimate: the estimate.
      low: the lower end of its interval, None without one.
      high: the upper end.
      bound: whether the estimate is an upper bound.
      limit: what the interval is judged by: an end that three digits would put on it has as many as show its side.

    Example:
      >>> estimate_text(1.52, 1.4, 1.66), estimate_text(0.25, 0.0, 0.3, bound=True)
      ('1.52 [1.40, 1.66]', '<0.250')
      >>> estimate_text(0.98, 0.96, 0.99998), estimate_text(0.98, 0.96, 0.99998, limit=1.0)
      ('0.980 [0.960, 1.00]', '0.980 [0.960, 0.99998]')
    """
    if bound:
        return f"<{three_digits(estimate)}"
    ends = None if low is None or high is None else (low, high)
    interval = "" if ends is None else f" [{', '.join(_beside(limit, end) for end in ends)}]"
    return f"{three_digits(estimate)}{interval}"


def _beside(limit: float | None, value: float) -> str:
    """Three digits, or as many as show on which side of the limit the value lies."""
    texts = (three_digits(value), *(f"{value:.{digits}g}" for digits in range(4, 18)))
    if limit is None or value == limit:
        return texts[0]
    return next(text for text in texts if float(text) != limit and (float(text) < limit) == (value < limit))
