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
BUILT: Final = {"STORE_UNAVAILABLE": "UNAVAILABLE", "SESSION_ENDED": "FAILED_PRECONDITION"}
"""Reasons that are not written where they are raised."""
FROM_INSIDE: Final = {
    "CHANGES_UNAVAILABLE": "only a mistake of ours brings it about",
    "POLICY_FILE_INVALID": "the daemon does not start, or keeps the rules it has, and says so in its log",
    "POLICY_RULE_INVALID": "one rule of many is passed over, which is said in the log",
    "RULES_UNAVAILABLE": "the daemon keeps the rules it has, and says so in its log",
    "SESSION_BUSY": "eight writers in a row would have to be faster",
    "SESSION_GONE": "the session would have to end in the very moment in which the policy side answers",
    "SESSION_IDS_USED_UP": "a subscriber would have to have a million sessions",
    "STORED_CHANGE_UNREADABLE": "the store would have to have what nobody has written",
    "STORED_FORMAT_NEWER": "a newer version would have to exist",
    "STORED_SESSION_UNREADABLE": "the store would have to have what nobody has written",
    "STORE_TAKEN_OVER": "a daemon that is not the owner any more stops",
}
"""Reasons that no test provokes over the wire, and why; each is expected by a test of the part that gives it."""
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


def expected(folder: str) -> set[str]:
    """Return the reasons that tests of a folder expect, and do not just make an error of."""
    known, found = documented(), set[str]()
    for path in sorted((ROOT / "tests" / folder).rglob("*.py")):
        if path == Path(__file__):
            continue
        nodes = list(ast.walk(parsed(path)))
        made = {id(node.args[0]) for node in nodes if isinstance(node, ast.Call) and node.args and _makes_error(node)}
        texts = (node for node in nodes if isinstance(node, ast.Constant) and id(node) not in made)
        found.update(word for node in texts if isinstance(node.value, str) for word in node.value.split())
    return found & known.keys()


def _makes_error(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Name) and call.func.id in {kind.__name__ for kind in CODES}


def test_the_list_is_that_of_the_code() -> None:
    """Whoever meets a reason finds it, with its status; what cannot be met any more is not listed."""
    assert documented() == raised()


def test_what_is_not_written_where_it_is_raised_is_still_written() -> None:
    """A reason that is put together elsewhere has not gone unnoticed."""
    written = {node.value for path in sources() for node in ast.walk(parsed(path)) if isinstance(node, ast.Constant)}
    assert BUILT.keys() <= written


def test_the_protocol_names_them_alike() -> None:
    """The reasons in the comments of the protocol are those of the list, with the same status."""
    listed = documented()
    text = (ROOT / "proto" / "sessiond" / "v1" / "session_service.proto").read_text(encoding="utf-8")
    named = {match["reason"]: match["status"] for match in NAMED.finditer(text)}
    assert len(named) > 10
    assert named == {reason: listed.get(reason) for reason in named}


def test_every_reason_is_provoked_by_a_test() -> None:
    """Over the wire, from the running daemon; where that cannot be, from the part that gives it."""
    over_the_wire = expected("blackbox")
    assert documented().keys() - over_the_wire == FROM_INSIDE.keys()
    assert FROM_INSIDE.keys() <= expected("")


@pytest.mark.parametrize("kind", [kind for kind in vars(errors).values() if isinstance(kind, type)])
def test_every_class_has_a_status(kind: type) -> None:
    """Each error that can be raised is told as something."""
    if issubclass(kind, SessionError) and kind not in {SessionError, errors.PeerFailed}:
        assert kind in CODES
