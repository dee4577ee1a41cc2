"""The HTTP API: every answer here is also held against `contracts/openapi.yaml`."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import bcrypt
import pytest
import yaml
from flask import Flask
from openapi_core import Config, OpenAPI
from openapi_core.contrib.werkzeug import WerkzeugOpenAPIResponse
from openapi_core.testing import MockRequest
from werkzeug.test import TestResponse

from chassis import problems
from chassis.database import Database
from tests.servers.mariadb import on_each_database
from user_service.app import CONTRACT

ALICE = {"name": "学院君", "email": "alice@example.com", "password": "geheim-geheim"}

URL = "http://127.0.0.1:8000"

Api = Callable[..., TestResponse]  # method, path, body, content type


@pytest.fixture(scope="module")
def contract() -> OpenAPI:
    """What the API promises."""
    document = yaml.safe_load(CONTRACT.read_text(encoding="utf-8"))
    return OpenAPI.from_dict(document, Config(extra_media_type_deserializers={problems.MEDIA_TYPE: json.loads}))


@pytest.fixture
def api(app: Flask, contract: OpenAPI) -> Api:
    """`api("POST", "/users", …)`: the answer, after it was held against the contract."""

    def call(method: str, path: str, body: object = None, content_type: str = "application/json") -> TestResponse:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        response = app.test_client().open(path, URL, method=method, data=data, content_type=content_type)
        asked = MockRequest(URL, method.lower(), path.partition("?")[0])
        contract.validate_response(asked, WerkzeugOpenAPIResponse(response))
        assert "geheim" not in response.text
        assert "$2b$" not in response.text
        return response

    return call


def fields(response: TestResponse) -> dict[str, str]:
    """What a problem says of each field."""
    assert response.content_type == "application/problem+json"
    problem = json.loads(response.data)
    assert problem["status"] == response.status_code
    return {error["field"]: error["message"] for error in problem.get("errors", [])}


@on_each_database
def test_a_registered_user_can_be_found_by_id_and_by_any_spelling_of_the_email(api: Api) -> None:
    """The story of the README."""
    created = api("POST", "/users", ALICE)
    user = created.get_json()
    assert created.status_code == 201
    assert user == {"id": user["id"], "name": "学院君", "email": "alice@example.com", "created_at": user["created_at"]}
    assert api("GET", created.headers["Location"]).get_json() == user
    assert api("GET", "/users?email=ALICE@Example.com").get_json() == {"users": [user]}


def test_nobody_is_found_who_is_not_there(api: Api) -> None:
    """An unknown id is a 404, an unknown address an empty list."""
    assert api("GET", "/users/nobody").status_code == 404
    assert api("GET", "/users/%00%FF").status_code == 404
    assert api("GET", "/users?email=nobody@example.com").get_json() == {"users": []}


@pytest.mark.parametrize("query", ["", "?email=nonsense", "?email=a@example.com&all=1"])
def test_users_are_not_listed(api: Api, query: str) -> None:
    """Only a whole address finds somebody."""
    response = api("GET", f"/users{query}")
    assert response.status_code == 422
    assert fields(response)


@on_each_database
@pytest.mark.parametrize("name", ["O'Brien", "学院君 🎉", "👩‍👩‍👧 Kim", "x" * 200, " نور ", "学" * 200])
def test_a_name_is_kept_as_it_is_in_any_script(api: Api, name: str) -> None:
    """Emoji joined from several, spaces at the ends, right to left: nothing is stripped or changed."""
    created = api("POST", "/users", {**ALICE, "name": name})
    assert created.status_code == 201
    assert api("GET", created.headers["Location"]).get_json()["name"] == name


@pytest.mark.parametrize(
    ("change", "field", "says"),
    [
        ({"name": ""}, "name", "empty"),
        ({"name": " \u3000\u200b"}, "name", "empty"),
        ({"name": "x" * 10_000}, "name", "at most 200"),
        ({"name": "a\0b"}, "name", "control"),
        ({"name": "a\r\nBcc: b@example.com"}, "name", "control"),
        ({"name": "\ud800"}, "name", "Unicode"),
        ({"name": None}, "name", "string"),
        ({"name": [[]]}, "name", "string"),
        ({"email": "nonsense"}, "email", "not a valid email"),
        ({"email": "a\0@example.com"}, "email", "not a valid email"),
        ({"email": "\ud800@example.com"}, "email", "Unicode"),
        ({"email": "x" * 60_000 + "@example.com"}, "email", "at most 254"),
        ({"email": "\ufdfa" * 60 + "@example.com"}, "email", "too long"),
        ({"email": 1}, "email", "string"),
        ({"password": ""}, "password", "empty"),
        ({"password": "密" * 25}, "password", "at most 72 bytes as UTF-8, and has 75"),
        ({"password": "a\0b"}, "password", "NUL"),
        ({"password": "\ud800"}, "password", "Unicode"),
        ({"password": 12345678}, "password", "string"),
        ({"id": ""}, "id", "1 to 64"),
        ({"id": "x" * 65}, "id", "1 to 64"),
        ({"id": "a\0b"}, "id", "1 to 64"),
        ({"id": "a\n"}, "id", "1 to 64"),
        ({"id": 7}, "id", "string"),
        ({"admin": True}, "admin", "not a known field"),
    ],
)
def test_a_bad_field_is_named(api: Api, change: dict[str, object], field: str, says: str) -> None:
    """422 with an entry for that field, and for no other."""
    response = api("POST", "/users", {**ALICE, **change})
    assert response.status_code == 422
    assert list(fields(response)) == [field]
    assert says in fields(response)[field]


def test_all_bad_fields_are_named_at_once(api: Api) -> None:
    """Nobody has to find out one by one."""
    assert fields(api("POST", "/users", {"email": "x", "password": "", "y": 1})).keys() == {
        "name",
        "email",
        "password",
        "y",
    }


def test_a_password_of_72_bytes_is_taken(api: Api) -> None:
    """The longest that bcrypt reads wholly."""
    assert api("POST", "/users", {**ALICE, "password": "密" * 24}).status_code == 201


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b'{"name": "\xff"}', 400),
        (b'{"name": NaN}', 400),
        (b'{"name": "a", "name": "b"}', 400),
        (b'{"\\ud800": 1}', 400),
        (b'{"name": ' + b"9" * 5_000 + b"}", 400),
        (b"[" * 60_000, 400),
        (b'{"a": ' * 10_000, 400),
        (b"[]", 422),
        (b'"text"', 422),
        (b"null", 422),
        (b" " * (64 * 1024 + 1), 413),
    ],
)
def test_a_body_that_is_no_object_is_refused(api: Api, body: bytes, status: int) -> None:
    """Whatever it is, it is the client's error and not ours."""
    response = api("POST", "/users", body)
    assert response.status_code == status
    assert fields(response) == {}


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_only_json_is_read(api: Api, content_type: str) -> None:
    """A browser's form cannot register anybody."""
    assert api("POST", "/users", ALICE, content_type).status_code == 415
    assert api("POST", "/users", ALICE, "application/json; charset=utf-8").status_code == 201


def test_the_same_id_with_the_same_content_is_a_safe_retry(api: Api) -> None:
    """The first answer was lost on the way: the second says the same, with 200."""
    first, second = (api("POST", "/users", {**ALICE, "id": "a-1"}) for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.get_json() == second.get_json()
    assert first.headers["Location"] == second.headers["Location"] == "/users/a-1"


@pytest.mark.parametrize(
    "change", [{"name": "Bob"}, {"email": "bob@example.com"}], ids=lambda change: next(iter(change))
)
def test_the_same_id_with_another_name_or_address_is_a_conflict(api: Api, change: dict[str, str]) -> None:
    """It is somebody else's."""
    api("POST", "/users", {**ALICE, "id": "a-1"})
    response = api("POST", "/users", {**ALICE, "id": "a-1", **change})
    assert response.status_code == 409
    assert list(fields(response)) == ["id"]


@pytest.mark.parametrize("change", [{}, {"name": "Bob"}, {"email": "bob@example.com"}, {"id": "b-1"}], ids=str)
def test_no_answer_and_no_time_tells_whether_a_guess_at_a_password_is_right(
    api: Api, change: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The right password and a wrong one are answered alike, and cost one hash each, as a new registration does."""
    work = list[str]()

    def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args: (work.append(name), function(*args))[1]  # type: ignore[func-returns-value]  # in an expression

    monkeypatch.setattr("bcrypt.hashpw", counted("hash", bcrypt.hashpw))
    monkeypatch.setattr("bcrypt.checkpw", counted("compare", bcrypt.checkpw))
    api("POST", "/users", {**ALICE, "id": "a-1"})
    guesses = [
        {**ALICE, "id": "a-1", **change, "password": guess} for guess in (ALICE["password"], "another", "x" * 72)
    ]
    answers = [api("POST", "/users", guess) for guess in guesses]
    assert len({(answer.status_code, answer.text, str(answer.headers)) for answer in answers}) == 1
    assert work == ["hash"] * 4


@on_each_database
def test_ids_that_differ_in_case_and_addresses_that_differ_in_an_accent_are_two(api: Api) -> None:
    """No database is so kind as to find them equal."""
    jose = {**ALICE, "id": "jose", "name": "jose", "email": "jose@example.com"}
    accented = {**ALICE, "id": "Jose", "name": "josé", "email": "josé@example.com"}
    assert [api("POST", "/users", user).status_code for user in (jose, accented)] == [201, 201]
    for user in (jose, accented):
        assert api("GET", f"/users/{user['id']}").get_json()["name"] == user["name"]
        assert [found["name"] for found in api("GET", f"/users?email={user['email']}").get_json()["users"]] == [
            user["name"]
        ]
    assert api("GET", "/users/JOSE").status_code == 404


@pytest.mark.parametrize("email", ["GROẞ@example.com", "gross@Example.COM", "ｇｒｏß@EXAMPLE.com"])
def test_an_email_is_taken_in_every_spelling(api: Api, email: str) -> None:
    """Capitals, ligatures, and wide letters make no other address."""
    assert api("POST", "/users", {**ALICE, "email": "groß@example.com"}).status_code == 201
    response = api("POST", "/users", {**ALICE, "email": email})
    assert response.status_code == 409
    assert list(fields(response)) == ["email"]


@on_each_database
def test_of_simultaneous_registrations_of_one_email_one_wins(api: Api) -> None:
    """The others read that it is taken."""
    with ThreadPoolExecutor(8) as threads:
        statuses = list(threads.map(lambda _: api("POST", "/users", ALICE).status_code, range(8)))
    assert sorted(statuses) == [201] + [409] * 7


@on_each_database
def test_simultaneous_retries_get_the_same_user(api: Api) -> None:
    """One makes it, the others find it."""
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: api("POST", "/users", {**ALICE, "id": "a-1"}), range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [201]
    assert len({answer.text for answer in answers}) == 1


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/metrics", "/openapi.json"])
def test_operators_are_answered(api: Api, path: str) -> None:
    """As the contract says."""
    assert api("GET", path).status_code == 200


@on_each_database
def test_not_ready_without_the_database(api: Api, database: Database) -> None:
    """Nobody should send requests here."""
    with database.transaction() as session:
        session.connection().exec_driver_sql("DROP TABLE schema_version")
    assert api("GET", "/health/ready").status_code == 503
