"""Are there dead letters? For the person on duty; an answer to the exercise of chapter 7.

python -m docs.walkthrough.solutions.on_duty

You should see a line for each group that has some. Exit status: 0 when there are none, 1 when there are.
"""

from __future__ import annotations

import sys

import broker


def main() -> int:
    """Count, say, and give the exit status."""
    with broker.connect(observer=True) as b:
        found = {f"{group.topic} → {group.name}": len(group.dead_letters()) for group in b.groups()}
    for group, letters in found.items():
        if letters:
            print(f"{group}: {letters} dead")
    return 1 if any(found.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
