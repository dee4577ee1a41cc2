"""Errors of an app, as its clients read them."""

from __future__ import annotations

import logging

import pytest
from flask import Flask
from flask.testing import FlaskClient

from chassis import health, problems
from chassis.errors import DatabaseError
from chassis.problems import Problem


@pytest.fixture
def client() -> FlaskClient:
    """A client of an app that goes wrong in every way."""
    app = Flask("app")
    problems.install(app)
    app.register_blueprint(health.blueprint(lambda: False))

    @app.get("/problem")
    def problem() -> str:
        raise Problem(422, "not valid", errors=[{"field": "email", "message": "is missing"}])

    @app.get("/bug")
    def bug() -> str:
        raise ValueError("geheim")

    @app.get("/database")
    def database() -> str:
        raise DatabaseError("database mysql://…: gone")

    return app.test_client()


def test_a_problem_names_each_bad_field(client: FlaskClient) -> None:
    """RFC 9457, with an `errors` extension."""
    response = client.get("/problem")
    assert (response.status_code, response.content_type) == (422, "application/problem+json")
    assert response.get_json(force=True) == {
        "title": "Unprocessable Content",
        "status": 422,
        "detail": "not valid",
        "errors": [{"field": "email", "message": "is missing"}],
    }


def test_a_bug_is_logged_and_not_told(client: FlaskClient, caplog: pytest.LogCaptureFixture) -> None:
    """The client reads nothing of the inside; the log has the traceback."""
    with caplog.at_level(logging.ERROR):
        response = client.get("/bug")
    assert (response.status_code, response.content_type) == (500, "application/problem+json")
    assert "geheim" not in response.text
    assert "ValueError: geheim" in caplog.text


def test_a_database_that_is_away_asks_to_try_again(client: FlaskClient) -> None:
    """It is not the client's fault, and will pass."""
    response = client.get("/database")
    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")


def test_a_wrong_method_says_which_are_right(client: FlaskClient) -> None:
    """RFC 9110 demands the header."""
    response = client.delete("/problem")
    assert (response.status_code, response.content_type) == (405, "application/problem+json")
    assert "GET" in response.headers["Allow"]


@pytest.mark.parametrize("path", ["/health/live", "/problem", "/bug", "/database", "/nowhere"])
def test_every_answer_says_that_it_is_not_to_be_kept_or_guessed_at(client: FlaskClient, path: str) -> None:
    """The good ones, the bad ones, and those to nobody."""
    headers = client.get(path).headers
    assert (headers["X-Content-Type-Options"], headers["Cache-Control"]) == ("nosniff", "no-store")
    assert "default-src 'none'" in headers["Content-Security-Policy"]


def test_alive_is_not_yet_ready(client: FlaskClient) -> None:
    """A process that waits for its database must not be killed, nor be sent requests."""
    assert client.get("/health/live").status_code == 200
    assert client.get("/health/ready").status_code == 503
