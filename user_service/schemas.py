"""What clients may send: one strict model, one clear message for each bad field."""

from __future__ import annotations

import json
import re
import unicodedata
import uuid
from types import MappingProxyType
from typing import Annotated, Any, NoReturn, TypeVar

from email_validator import EmailNotValidError, validate_email
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, StringConstraints, ValidationError
from pydantic_core import ErrorDetails

from chassis.problems import FieldError, Problem

Model = TypeVar("Model", bound=BaseModel)

MAX_NAME_LENGTH = 200
MAX_EMAIL_LENGTH = 254  #: RFC 5321, 4.5.3.1.3, without the angle brackets
MAX_EMAIL_KEY_LENGTH = 320  #: folding makes some letters two or more
MAX_PASSWORD_BYTES = 72  #: bcrypt looks at no more, so that longer ones would be equal


#: pydantic's name of an error → how we say it
MESSAGES = MappingProxyType(
    {
        "missing": "is missing",
        "extra_forbidden": "is not a known field",
        "string_type": "must be a string",
        "string_unicode": "must be valid Unicode",  # only of strings with constraints: see `_text` for the others
        "string_too_long": "must have at most {max_length} characters",
    }
)


def _text(value: str) -> str:
    """JSON can spell half a character (a lone surrogate) that no UTF-8 can carry."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("must be valid Unicode") from None
    return value


def _user_id(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", value):
        raise ValueError("must be 1 to 64 of A-Z a-z 0-9 _ -")
    return value


def _name(value: str) -> str:
    if any(unicodedata.category(character) == "Cc" for character in value):
        raise ValueError("must not contain control characters")
    if not any(character.isprintable() and not character.isspace() for character in value):
        raise ValueError("must not be empty")
    return value


def _email(value: str) -> str:
    try:
        email = validate_email(value, check_deliverability=False).normalized
    except EmailNotValidError as error:
        raise ValueError(f"is not a valid email address: {error}") from error
    if len(email) > MAX_EMAIL_LENGTH or len(email_key(email)) > MAX_EMAIL_KEY_LENGTH:
        raise ValueError("is too long")
    return email


def _password(value: SecretStr) -> SecretStr:
    password = _text(value.get_secret_value())
    if not password:
        raise ValueError("must not be empty")
    if "\0" in password:
        raise ValueError("must not contain NUL")
    if (size := len(password.encode())) > MAX_PASSWORD_BYTES:
        raise ValueError(f"must have at most {MAX_PASSWORD_BYTES} bytes as UTF-8, and has {size}")
    return value


Email = Annotated[str, StringConstraints(max_length=MAX_EMAIL_LENGTH), AfterValidator(_email)]


Name = Annotated[str, StringConstraints(max_length=MAX_NAME_LENGTH), AfterValidator(_name)]
UserId = Annotated[str, AfterValidator(_user_id)]
Password = Annotated[SecretStr, AfterValidator(_password)]


class NewUser(BaseModel):
    """Somebody who wants to be registered. `id` is the client's to choose, so that it can safely try again."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    id: UserId = Field(default_factory=lambda: str(uuid.uuid4()))
    name: Name
    email: Email
    password: Password


class EmailQuery(BaseModel):
    """The query of `GET /users?email=`."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    email: Email


def email_key(email: str) -> str:
    """The same for every spelling of an address: capitals and Unicode forms apart (NFKC, case folded)."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", email).casefold())


def read_new_user(body: bytes) -> NewUser:
    """The registration in a request's body, or a `Problem`: 400 not JSON, 422 with one entry for each bad field."""
    document = _read_json(body)
    if not isinstance(document, dict):
        raise Problem(422, "the body must be a JSON object")
    return _valid(NewUser, document, "the user is not valid")


def read_email_query(query: dict[str, str]) -> EmailQuery:
    """The address in a query, normalised as at registration, or a `Problem`."""
    return _valid(EmailQuery, query, "the query is not valid")


def _read_json(body: bytes) -> Any:
    """Strict JSON: what two readers may read differently, such as a name that comes twice, is refused."""
    try:
        return json.loads(body.decode(), object_pairs_hook=_object, parse_constant=_no_constant)
    except RecursionError:
        raise Problem(400, "the body is nested too deeply") from None
    except ValueError as error:
        raise Problem(400, f"the body is not JSON: {error}") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [_text(name) for name, _ in pairs]
    if len(set(names)) < len(names):
        raise ValueError("a name comes twice in one object")
    return dict(pairs)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _valid(model: type[Model], document: dict[str, Any], detail: str) -> Model:
    try:
        return model.model_validate(document)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=False)
        raise Problem(422, detail, errors=[_field_error(each) for each in errors]) from None


def _field_error(error: ErrorDetails) -> FieldError:
    template = MESSAGES.get(error["type"])
    message = template.format(**error.get("ctx", {})) if template else error["msg"].removeprefix("Value error, ")
    return FieldError(field=str(error["loc"][0]), message=message)
