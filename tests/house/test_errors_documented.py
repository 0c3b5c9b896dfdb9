"""docs/errors.md lists every reason that the code can give, with its status; each is known to a test."""

import ast
import re
from pathlib import Path
from typing import Final

import pytest

from sessiond.core import errors
from sessiond.core.errors import SessionError
from sessiond.northbound.status import CODES
from tests.house.tree import parsed, sources

ROOT: Final = Path(__file__).parents[2]
ROW: Final = re.compile(r"\| (?:\*\*)?`(?P<reason>[A-Z_]+)`(?:\*\*)? \| (?P<status>[A-Z_]+) \|")
BUILT: Final = {"STORE_UNAVAILABLE": "UNAVAILABLE"}
"""Reasons that are not written where they are raised."""
NAMED: Final = re.compile(r"^ *// +(?P<status>[A-Z_]{5,}) +(?P<reason>[A-Z_]{5,}) ", re.MULTILINE)


def documented() -> dict[str, str]:
    """Return the status of each reason on the list."""
    text = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    rows = [(match["reason"], match["status"]) for match in ROW.finditer(text)]
    assert len(rows) == len(dict(rows)), "a reason is listed twice"
    return dict(rows)


def raised() -> dict[str, str]:
    """Return the status of each reason that is written in the code."""
    classes = {kind.__name__: code.name for kind, code in CODES.items()}
    found: dict[str, str] = dict(BUILT)
    for path in sources():
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                kind = node.func.id if isinstance(node.func, ast.Name) else ""
                if kind in classes:
                    reason = str(node.args[0].value)
                    assert found.setdefault(reason, classes[kind]) == classes[kind], f"{reason} has two statuses"
    return found


def test_every_reason_is_listed_with_its_status() -> None:
    """Whoever meets a reason finds it."""
    listed = documented()
    assert {reason: listed.get(reason) for reason in raised()} == raised()


def test_the_protocol_names_them_alike() -> None:
    """The reasons in the comments of the protocol are those of the list, with the same status."""
    listed = documented()
    text = (ROOT / "proto" / "sessiond" / "v1" / "session_service.proto").read_text(encoding="utf-8")
    named = {match["reason"]: match["status"] for match in NAMED.finditer(text)}
    assert len(named) > 10
    assert named == {reason: listed.get(reason) for reason in named}


def test_every_reason_is_known_to_a_test() -> None:
    """A reason that no test expects may never be given."""
    tests = [path for path in (ROOT / "tests").rglob("test_*.py") if path != Path(__file__)]
    text = "\n".join(path.read_text(encoding="utf-8") for path in tests)
    assert {reason for reason in raised() if reason not in text} == set()


@pytest.mark.parametrize("kind", [kind for kind in vars(errors).values() if isinstance(kind, type)])
def test_every_class_has_a_status(kind: type) -> None:
    """Each error that can be raised is told as something."""
    if issubclass(kind, SessionError) and kind not in {SessionError, errors.PeerFailed}:
        assert kind in CODES
