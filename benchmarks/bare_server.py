"""What the user service is compared with: the same server, and as much of a registration as the word says.

    python -m benchmarks.bare_server handler                     reads, checks and hashes, and stores nothing
    python -m benchmarks.bare_server orm DATABASE_URL            a plain Flask view: hashes, inserts a row by the ORM

Both hash at bcrypt's lowest cost. It prints where it listens, and ends when its standard input does.
"""

from __future__ import annotations

import logging
import sys
import uuid
from datetime import UTC, datetime

import bcrypt
from flask import Flask, request
from sqlalchemy import String, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from chassis.database import Database
from chassis.metrics import new_registry
from chassis.server import Server
from user_service.app import create_app
from user_service.metrics import Metrics
from user_service.registration import Registered
from user_service.schemas import NewUser, email_key
from user_service.tables import Base, User

COST = 4
BUSY_SECONDS = 30  #: how long SQLite waits for another writer


class Nowhere:
    """A registration that stores nothing."""

    def register(self, new: NewUser) -> Registered:
        """All but the database."""
        hashed = bcrypt.hashpw(new.password.get_secret_value().encode(), bcrypt.gensalt(COST)).decode()
        now, key = datetime.now(UTC), email_key(new.email)
        return Registered(
            User(id=new.id, name=new.name, email=new.email, email_key=key, password_hash=hashed, created_at=now),
            is_new=True,
        )


def handler() -> Flask:
    """The user service's own app, without a database behind it."""
    database = Database("sqlite://", Base.metadata, schema_name="none", schema_version=1)
    registry = new_registry()
    return create_app(database, Nowhere(), Metrics(registry), registry)  # type: ignore[arg-type]  # it has the one method that is used


class Plain(DeclarativeBase):
    """The table of a tutorial."""


class Somebody(Plain):
    """A user."""

    __tablename__ = "somebody"
    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    email: Mapped[str] = mapped_column(String(254), unique=True)
    password_hash: Mapped[str] = mapped_column(String(60))


def orm(url: str) -> Flask:
    """A minimal handler, as tutorials have it; SQLite waits when it is busy."""
    sqlite = url.startswith("sqlite")
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS} if sqlite else {}, pool_size=10)
    Plain.metadata.create_all(engine)
    app = Flask("plain")

    @app.post("/users")
    def register() -> tuple[dict[str, str], int]:
        new = request.get_json()
        hashed = bcrypt.hashpw(new["password"].encode(), bcrypt.gensalt(COST)).decode()
        user = Somebody(id=str(uuid.uuid4()), name=new["name"], email=new["email"], password_hash=hashed)
        with Session(engine, expire_on_commit=False) as session:
            session.add(user)
            session.commit()
        return {"id": user.id, "name": user.name, "email": user.email}, 201

    return app


def main() -> None:
    """Serve."""
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # as the services do
    app = orm(sys.argv[2]) if sys.argv[1] == "orm" else handler()
    with Server(app, "127.0.0.1", 0) as server, server.taking_requests():
        print(server.url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
