"""What is sent as a password is in no answer and no log line, however wrong the rest of the request is."""

from __future__ import annotations

import json
import logging
import re
from typing import Any

import pytest
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SECRET = "tell-nobody-学院君"
HASH = re.compile(r"\$2[aby]\$")

wrong = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=2))
passwords = st.sampled_from([SECRET, SECRET * 5, f"{SECRET}\0", f"{SECRET}\ud800", [SECRET], {"x": SECRET}])
bodies = st.fixed_dictionaries(
    {"password": passwords},
    optional={
        "name": st.just("学院君") | wrong,
        "email": st.sampled_from(["a@example.com", "A@Example.com", "a"]) | wrong,
        "id": st.sampled_from(["a", "b", "x y"]) | wrong,
        "more": wrong,
    },
)


def cut(body: dict[str, Any], length: int) -> bytes:
    """As JSON, maybe not to its end."""
    return json.dumps(body).encode()[: length or None]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # one database is as good as many
@given(body=st.builds(cut, bodies, st.sampled_from([0, 0, -1, 70])), method=st.sampled_from(["POST", "PUT"]))
def test_a_password_gets_nowhere(app: Flask, caplog: pytest.LogCaptureFixture, body: bytes, method: str) -> None:
    """Neither it nor its hash; registered or refused, cut off or taken."""
    caplog.set_level(logging.DEBUG)
    answer = app.test_client().open("/users", method=method, data=body, content_type="application/json")
    assert answer.status_code < 500
    for said in (answer.text, str(answer.headers), caplog.text):
        assert "tell-nobody" not in said
        assert not HASH.search(said)
    caplog.clear()
