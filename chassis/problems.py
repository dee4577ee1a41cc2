"""Every error of the HTTP API as `application/problem+json` (RFC 9457), so that clients read one shape.

raise Problem(422, "the user is not valid", errors=[{"field": "email", "message": "is missing"}])
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from http import HTTPStatus
from types import MappingProxyType
from typing import TypedDict

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from chassis.errors import DatabaseError

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"

#: an API that is not meant to be shown, framed, guessed at or kept by caches
SECURITY_HEADERS = MappingProxyType(
    {
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
        "Cache-Control": "no-store",
    }
)


#: RFC 9110's names where Pythons before 3.13 have older ones
TITLES = MappingProxyType({413: "Content Too Large", 422: "Unprocessable Content"})


class FieldError(TypedDict):
    """One field of a request and what is wrong with it."""

    field: str
    message: str


class Problem(Exception):
    """Raise it in a view: the client gets this status, this text, and one entry for each bad field."""

    def __init__(self, status: int, detail: str, errors: Sequence[FieldError] = ()) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = errors


def document(status: int, detail: str, errors: Sequence[FieldError] = ()) -> bytes:
    """The problem as JSON. The type is left out, which means that the title is the status in words."""
    title = TITLES.get(status) or HTTPStatus(status).phrase
    problem = {"title": title, "status": status, "detail": detail}
    if errors:
        problem["errors"] = list(errors)
    return json.dumps(problem).encode()


def install(app: Flask) -> None:
    """Make every error of the app a problem, and add the headers that keep browsers from guessing."""
    app.register_error_handler(Problem, _problem)
    app.register_error_handler(HTTPException, _http_exception)
    app.register_error_handler(DatabaseError, _database_error)
    app.register_error_handler(Exception, _unexpected)
    app.after_request(_add_security_headers)


def response(status: int, detail: str, errors: Sequence[FieldError] = ()) -> Response:
    """The problem as Flask's response, for an app's own error handlers."""
    return Response(document(status, detail, errors), status, mimetype=MEDIA_TYPE)


def unavailable(detail: str) -> Response:
    """503: for the moment; the same request may be sent again, here or to another instance."""
    problem = response(503, detail)
    problem.headers["Retry-After"] = "1"
    return _add_security_headers(problem)


def _problem(error: Problem) -> Response:
    return response(error.status, error.detail, error.errors)


def _http_exception(error: HTTPException) -> Response:
    """Flask's own errors (404, 405, 413, 415, …) keep their headers, such as `Allow`."""
    problem = response(error.code or 500, error.description or "")
    for name, value in error.get_headers(request.environ):
        if name.lower() not in ("content-type", "content-length"):
            problem.headers[name] = value
    return problem


def _database_error(error: DatabaseError) -> Response:
    log.error("%s %s: %s", request.method, request.path, error)
    return unavailable("the database does not answer; try again")


def _unexpected(error: Exception) -> Response:
    log.error("%s %s failed", request.method, request.path, exc_info=error)
    return response(500, "an error on our side; it has been logged")


def _add_security_headers(response: Response) -> Response:
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    return response
