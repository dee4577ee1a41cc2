"""A user service that calls the email service and waits for it. How not to do it; for chapter 3 of the walkthrough.

python -m docs.walkthrough.direct_users

You should see `listening`. It keeps its users in memory.
"""

from __future__ import annotations

import requests
from flask import Flask, request
from waitress import serve

PORT = 8000
EMAILS_URL = "http://127.0.0.1:8001"

app = Flask(__name__)
users: list[dict[str, str]] = []


@app.post("/users")
def register() -> tuple[dict[str, str], int]:
    """Store the user, then have the email sent."""
    user = request.get_json()
    if any(user["email"] == other["email"] for other in users):
        return {"error": "email is registered already"}, 409
    users.append(user)
    requests.post(f"{EMAILS_URL}/send", json=user, timeout=60).raise_for_status()
    return user, 201


@app.get("/users")
def list_users() -> dict[str, list[str]]:
    """Who is registered."""
    return {"registered": [user["name"] for user in users]}


@app.errorhandler(requests.RequestException)
def call_failed(_: Exception) -> tuple[dict[str, str], int]:
    """The email service did not do it."""
    return {"error": "the email service does not answer"}, 500


if __name__ == "__main__":
    print(f"listening on http://127.0.0.1:{PORT}", flush=True)
    serve(app, host="127.0.0.1", port=PORT)
