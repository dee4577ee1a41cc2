"""How to install what a broker needs beside this package; said by every error about a package that is missing."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution

DISTRIBUTION = "one-contract-broker"


def install_line(extra: str) -> str:
    """The command for one extra: of the distribution, or where that is not installed of the project around it."""
    try:
        distribution(DISTRIBUTION)
    except PackageNotFoundError:
        return f"pip install '.[{extra}]'"
    return f"pip install '{DISTRIBUTION}[{extra}]'"
