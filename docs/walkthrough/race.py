"""Eight people register one address at the same moment. For chapter 2 of the walkthrough.

python -m docs.walkthrough.race

You should see how many of them were registered: one.
"""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import requests

USERS_URL = "http://127.0.0.1:8000/users"
PEOPLE = 8


def register(number: int) -> int:
    """The status of the answer."""
    user = {"name": f"Person {number}", "email": "race@example.com", "password": "correct horse"}
    return requests.post(USERS_URL, json=user, timeout=60).status_code


if __name__ == "__main__":
    with ThreadPoolExecutor(PEOPLE) as people:
        for status, times in sorted(Counter(people.map(register, range(PEOPLE))).items()):
            print(f"{times} × status {status}")
