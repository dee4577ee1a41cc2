"""Asks a service one thing over HTTP, and shows the whole answer. For the walkthrough; `curl -i` does the same.

python -m docs.walkthrough.ask GET http://127.0.0.1:8000/users/ada
python -m docs.walkthrough.ask POST http://127.0.0.1:8000/users '{"name": "Ada", …}'

You should see the status, how long it took, and the body.
"""

from __future__ import annotations

import json
import sys

import requests


def main(method: str, url: str, body: str | None = None) -> None:
    """Ask, and print."""
    try:
        answer = requests.request(
            method, url, data=body and body.encode(), headers={"Content-Type": "application/json"}, timeout=60
        )
    except requests.RequestException:
        print("no answer: the connection was refused or cut")
        return
    print(f"{answer.status_code} {answer.reason}, after {answer.elapsed.total_seconds():.2f} s")
    print(json.dumps(answer.json(), ensure_ascii=False, indent=2))


if __name__ == "__main__":
    main(*sys.argv[1:])
