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


def estimate_text(estimate: float, low: float | None, high: float | None, *, bound: bool = False) -> str:
    """An estimate and its interval to three digits; an upper bound without an interval, after "<".

    Example:
      >>> estimate_text(1.52, 1.4, 1.66), estimate_text(0.25, 0.0, 0.3, bound=True)
      ('1.52 [1.40, 1.66]', '<0.250')
    """
    if bound:
        return f"<{three_digits(estimate)}"
    interval = "" if low is None or high is None else f" [{three_digits(low)}, {three_digits(high)}]"
    return f"{three_digits(estimate)}{interval}"
