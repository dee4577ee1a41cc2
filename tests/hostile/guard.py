"""What schemathesis is told besides the OpenAPI documents: which values are good, and what no answer may lack or say.

schemathesis loads it by SCHEMATHESIS_HOOKS; see `test_apis.py`.
"""

from __future__ import annotations

import re
from typing import Any

import schemathesis
from hypothesis import strategies as st

from chassis.problems import SECURITY_HEADERS

INSIDE = re.compile(r"Traceback|File \"|\$2[aby]\$|sqlalchemy|sqlite", re.IGNORECASE)

#: few of them twice, since an address is taken once
addresses = st.builds("{}{}@Example.com".format, st.sampled_from(["a", "Zoë", "学院君"]), st.integers(0, 10**9))

schemathesis.openapi.format("idn-email", addresses)
schemathesis.openapi.format("password", st.text(min_size=1, max_size=18))  # at most 72 bytes as UTF-8


@schemathesis.hook
def filter_body(_: schemathesis.HookContext, body: Any) -> bool:
    """Leave out names in which there is nothing to see: no pattern can say that in every dialect."""
    name = body.get("name") if isinstance(body, dict) else None
    return not isinstance(name, str) or any(c.isprintable() and not c.isspace() for c in name)


@schemathesis.check
def guarded(_: schemathesis.CheckContext, response: schemathesis.Response, __: schemathesis.Case[Any]) -> None:
    """Every answer has the headers that keep browsers from guessing, and nothing of the inside."""
    for name, value in SECURITY_HEADERS.items():
        assert response.headers.get(name.lower()) == [value], f"{name}: {response.headers.get(name.lower())}"
    assert not INSIDE.search(response.text), "it tells of the inside"
