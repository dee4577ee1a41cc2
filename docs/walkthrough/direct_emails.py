"""An email service that is called. How not to do it; for chapter 3 of the walkthrough.

python -m docs.walkthrough.direct_emails [SECONDS]

You should see `listening`. It takes so many SECONDS for each email, as a mail server on a bad day does.
"""

from __future__ import annotations

import sys
import threading

from flask import Flask, request
from waitress import serve

PORT = 8001
SECONDS = float(sys.argv[1]) if len(sys.argv) > 1 else 0.0

app = Flask(__name__)
sent: list[str] = []


@app.post("/send")
def send() -> dict[str, str]:
    """Send the email, and only then answer."""
    user = request.get_json()
    threading.Event().wait(SECONDS)
    print(f"[SENDING A EMAIL TO {user['name']}...]", flush=True)
    sent.append(user["name"])
    return {"sent": user["name"]}


@app.get("/sent")
def list_sent() -> dict[str, list[str]]:
    """Who has an email."""
    return {"emailed": sent}


if __name__ == "__main__":
    print(f"listening on http://127.0.0.1:{PORT}", flush=True)
    serve(app, host="127.0.0.1", port=PORT)
