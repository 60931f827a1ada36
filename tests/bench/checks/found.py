"""What checks say of a subject."""

from bench.checks.contract import examine


def broken(checks, subject):
    return {name: detail for name, passed, detail in examine(checks, subject) if not passed}
