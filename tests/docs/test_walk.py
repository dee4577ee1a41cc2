"""A walk fails where a reader would stumble."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import Page
from tests.docs.walk import walk

GOOD = """\
In terminals 1 and 2:

```bash
. .venv/bin/activate
export WORD=hello
```

In terminal 1, a program that runs on:

```bash
python -c 'import time; print("ready", flush=True); time.sleep(3600)'
```

```text
ready
```

In terminal 2:

```bash
echo $WORD
cat <<END
two $WORD
END
```

```text
hello
two hello
```

Press <kbd>Ctrl-C</kbd> in terminal 1.
"""

BAD = {
    "another word": "```bash\necho no\n```\n\n```text\nyes\n```\n",
    "a line too many": "```bash\necho yes; echo no\n```\n\n```text\nyes\n```\n",
    "a line too few": "```bash\necho yes\n```\n\n```text\nyes\nno\n```\n",
    "output that is not shown": "```bash\necho yes\n```\n",
    "output of the second look": "```bash\necho yes; echo no\n```\n\n```text\nyes\n```\n\n```text\nnever\n```\n",
    "a failure": "```bash\nfalse\n```\n",
    "a failure before the last line": "```bash\nfalse\ntrue\n```\n",
    "a death that is not shown": "```bash\nbash -c 'kill -9 $$'\n```\n",
    "two ids where the page has one": (
        "```bash\necho 0123456789abcdef fedcba9876543210\n```\n\n```text\nabcdabcdabcdabcd abcdabcdabcdabcd\n```\n"
    ),
}


def test_a_page_may_start_a_program_look_elsewhere_and_end_it(tmp_path: Path) -> None:
    """In several terminals, with what was exported still there."""
    walk(_page(tmp_path, GOOD), tmp_path)


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_a_page_that_is_not_true_fails(tmp_path: Path, text: str) -> None:
    """With the line, the terminal, and what it shows."""
    with pytest.raises(AssertionError) as failure:
        walk(_page(tmp_path, text), tmp_path)
    assert "page.md, line" in failure.value.__notes__[0]


def test_the_copy_that_is_walked_in_is_not_the_project(tmp_path: Path) -> None:
    """Whatever a page does to its files is done to the copy, and its programs listen elsewhere."""
    page = "```bash\npwd\ngrep -c ' 8000' client.py user_service/settings.py || true\n```\n\n"
    walk(_page(tmp_path, f"{page}```text\n{tmp_path / 'project'}\n…\n```\n"), tmp_path)
    assert "8000" not in (tmp_path / "project" / "client.py").read_text(encoding="utf-8")


def _page(folder: Path, text: str) -> Page:
    path = folder / "page.md"
    path.write_text(text, encoding="utf-8")
    return Page(path)
