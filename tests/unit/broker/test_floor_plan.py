"""The adapters have the same rooms: CONTRIBUTING draws the plan, and this holds it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

BROKER = Path(__file__).parents[3] / "broker"
ON_THE_PLAN = {"redis": "Redis", "nats": "Nats", "rabbitmq": "RabbitMQ"}
#: file → the classes that it must have, in this order
ROOMS = {
    "broker.py": ["Broker"],
    "connection.py": ["Connection"],
    "publisher.py": ["Publisher"],
    "source.py": ["Source", "Broadcast"],
    "group.py": ["Group"],
    "wire.py": [],
}
MOST_LINES = 300


@pytest.mark.parametrize("folder", ON_THE_PLAN)
def test_an_adapter_has_each_room_with_its_classes_in_order(folder: str) -> None:
    """Their names begin with the server's."""
    for file, wanted in ROOMS.items():
        tree = ast.parse((BROKER / folder / file).read_text(encoding="utf-8"))
        classes = [node.name for node in tree.body if isinstance(node, ast.ClassDef)]
        names = [ON_THE_PLAN[folder] + name for name in wanted]
        assert [name for name in classes if name in names] == names, file


@pytest.mark.parametrize("folder", ON_THE_PLAN)
def test_errors_are_put_into_words_in_one_place(folder: str) -> None:
    """`connection.explain`, in each of them."""
    tree = ast.parse((BROKER / folder / "connection.py").read_text(encoding="utf-8"))
    assert "explain" in [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]


@pytest.mark.parametrize(
    "path",
    sorted(p for folder in ON_THE_PLAN for p in (BROKER / folder).glob("*.py")),
    ids=lambda path: f"{path.parent.name}/{path.name}",
)
def test_no_room_is_too_large_to_be_held_in_mind(path: Path) -> None:
    """A file that grows beyond it is two."""
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES
