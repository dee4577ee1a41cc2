"""The table of brokers and what they promise, generated from their classes; the README's is this one."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

from broker.base import Broker, Promises

YES = "✓"
NO_EXTRA = frozenset({"memory", "http"})  #: brokers that need no client library of their own
BEGIN, END = "<!-- promises -->", "<!-- /promises -->"  #: around the table in a document


def _or(difference: str, field: str) -> Callable[[Promises], str]:
    return lambda promises: YES if getattr(promises, field) else difference


#: each row: what is promised, and how a broker's declaration reads
ROWS = MappingProxyType(
    {
        "needs": lambda promises: promises.needs,
        "tested on": lambda promises: promises.tested_on,
        "publisher and consumer in different processes": _or("one process only", "many_processes"),
        "a group keeps its messages while nobody is there (4)": _or("while one broker is connected", "durable"),
        "what is confirmed outlives a `kill -9` of the server (4, 13)": _or("no", "survives_kill"),
        "before the first subscriber (5)": lambda promises: (
            "kept for it" if promises.replays else "`mandatory` raises `NoSubscriber`"
        ),
        "`mandatory` wants a group, not a mere listener (5)": _or(
            "cannot tell them apart", "mandatory_sees_only_groups"
        ),
        "retry delays spread by ±20 % (6)": _or("exact", "jitter"),
        "order (9)": lambda promises: "per key" if promises.order_per_key else "per topic",
        "longest handler (10)": lambda promises: (
            "any"
            if promises.longest_handler_seconds is None
            else f"{promises.longest_handler_seconds / 60:g} min, then a second run"
        ),
        "what a drain hands back keeps its `attempt` (11)": _or("may rise by one", "hand_back_keeps_attempt"),
    }
)


def promises_table(brokers: dict[str, type[Broker]]) -> str:
    """Markdown: a column for each broker, a row for each promise that some broker keeps in another way."""
    head = ["", *(f"`{name}`" for name in brokers)]
    address = ["URL", *(f"`{cls.default_address}`" for cls in brokers.values())]
    install = ["install", *("" if name in NO_EXTRA else f"`pip install '.[{name}]'`" for name in brokers)]
    lines = [head, ["---"] * len(head), address, install]
    for title, cell in ROWS.items():
        lines.append([title, *(cell(cls.promises) for cls in brokers.values())])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def with_table(document: str, table: str) -> str:
    """The document with this table in place of the one that it has between `BEGIN` and `END`."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"no place for the table: the document needs {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{table}\n\n{END}{after}"
