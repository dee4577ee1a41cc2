"""The README's table of promises is the one that the code declares."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.cli.table import promises_table, with_table
from broker.plugins import BUILT_IN, find

README = Path(__file__).parents[2] / "README.md"


def test_the_readme_shows_what_the_brokers_declare() -> None:
    """When this fails: `make table`."""
    readme = README.read_text("utf-8")
    assert with_table(readme, promises_table({name: find(name)[0] for name in BUILT_IN})) == readme


def test_a_document_without_a_place_for_the_table_is_refused() -> None:
    """Instead of being overwritten."""
    with pytest.raises(ValueError, match="no place"):
        with_table("no marks", "table")
