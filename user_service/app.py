"""The HTTP API, as `contracts/openapi.yaml` promises it. Views only translate; the work is in `registration.py`."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TypedDict

from flask import Flask, Response, request, url_for
from prometheus_client import CollectorRegistry

from chassis import problems
from chassis.app import new_app
from chassis.database import Database
from chassis.problems import Problem
from user_service.errors import RegistrationError
from user_service.metrics import Metrics
from user_service.registration import Registration
from user_service.repository import UserRepository
from user_service.schemas import email_key, read_email_query, read_new_user
from user_service.tables import User

CONTRACT = Path(__file__).parent.parent / "contracts" / "openapi.yaml"


class UserDocument(TypedDict):
    """A user as clients see it: without the password, in any form."""

    id: str
    name: str
    email: str
    created_at: str


def create_app(database: Database, registration: Registration, metrics: Metrics, registry: CollectorRegistry) -> Flask:
    """The WSGI app. It is ready while the database is; a broker that is away stops no registration."""
    app = new_app("user_service", contract=CONTRACT, is_ready=database.ping, registry=registry)
    app.register_error_handler(RegistrationError, _conflict)

    @app.post("/users")
    def register() -> tuple[UserDocument, int, dict[str, str]]:
        with metrics.counting_refusals():
            if request.mimetype != "application/json":
                raise Problem(415, "the Content-Type must be application/json")
            registered = registration.register(read_new_user(request.get_data()))
        metrics.registered(registered.is_new)
        location = url_for("get_user", user_id=registered.user.id)
        return _document(registered.user), 201 if registered.is_new else 200, {"Location": location}

    @app.get("/users/<user_id>")
    def get_user(user_id: str) -> UserDocument:
        with database.reading() as session:
            user = UserRepository(session).get(user_id)
        if not user:
            raise Problem(404, "there is no user of that id")
        return _document(user)

    @app.get("/users")
    def find_users() -> dict[str, list[UserDocument]]:
        query = read_email_query(request.args.to_dict())
        with database.reading() as session:
            user = UserRepository(session).get_by_email(email_key(query.email))
        return {"users": [_document(user)] if user else []}

    return app


def _document(user: User) -> UserDocument:
    return UserDocument(id=user.id, name=user.name, email=user.email, created_at=_rfc_3339(user.created_at))


def _rfc_3339(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _conflict(error: RegistrationError) -> Response:
    return problems.response(409, f"{error.field} {error}", [{"field": error.field, "message": str(error)}])
