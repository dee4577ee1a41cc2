"""One user, registered three times at the same moment: an answer to the exercise of chapter 2.

python -m docs.walkthrough.solutions.register_thrice

You should see one 201 and two 200.
"""

from __future__ import annotations

import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import requests

USERS_URL = "http://127.0.0.1:8000/users"
TIMES = 3


def register(user: dict[str, str]) -> int:
    """The status of the answer."""
    return requests.post(USERS_URL, json=user, timeout=60).status_code


if __name__ == "__main__":
    user_id = str(uuid.uuid4())
    user = {"id": user_id, "name": "Thrice", "email": f"{user_id}@example.com", "password": "correct horse"}
    with ThreadPoolExecutor(TIMES) as clients:
        for status, times in sorted(Counter(clients.map(register, [user] * TIMES)).items()):
            print(f"{times} × status {status}")
