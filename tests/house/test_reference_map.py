"""What the authors of the reference gateway found worth a test, and where ours for it is: `tests/reference_map.csv`.

`tests/data/reference_tests.txt` has the names of theirs.
"""

import ast
import csv
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.house.tree import PACKAGE, ROOT, functions, name_of, parsed, written_tests

# The core network of the fifth generation is not served: requirement G17.
FIVE_G = {
    "SessionManagerHandlerTest.test_IPv6PDUSessionEstablishmentContext",
    "SessionManagerHandlerTest.test_InitSessionContext",
    "SessionManagerHandlerTest.test_LocalReleaseSessionContext",
    "SessionManagerHandlerTest.test_LocalSessionTerminationContext",
    "SessionManagerHandlerTest.test_PDUStateChangeHandling",
    "SessionManagerHandlerTest.test_SessionCompleteTerminationContext",
    "SessionManagerHandlerTest.test_SetAmfSessionAmbr",
    "SessionManagerHandlerTest.test_SetAmfSessionContext",
    "SessionManagerHandlerTest.test_SetPduSessionReleaseContext",
    "SessionManagerHandlerTest.test_SetSmfNotification",
    "SessionManagerHandlerTest.test_UpdateSessionContext",
    "SessionManagerHandlerTest.test_create_session_policy_report",
    "SessionManagerHandlerTest.test_policy_reauth_request",
    "SessionManagerHandlerTest.test_policy_reauth_request_other_failure",
    "SessionManagerHandlerTest.test_rar_session_not_found",
    "SessionManagerHandlerTest.test_single_record_5g",
    "SessionManagerHandlerTest.test_terminate_session_policy_report",
    "SessionManagerHandlerTest.test_update_session_credits_and_rules_5g",
    "SessionStateTest5G.test_get_session_rules",
    "SessionStateTest5G.test_marshal_unmarshal",
    "SessionStateTest5G.test_process_dynamic_rule_installs",
    "SessionStateTest5G.test_process_static_rule_installs",
    "SessionStateTest5G.test_remove_all_session_rules",
    "SetUPFNodeState.test_upf_node_state",
    "SetUPFNodeState.test_upf_session_config",
}

DOES_NOT_APPLY = "does not apply: "
SHORTEST_REASON = 20

MAP = ROOT / "tests" / "reference_map.csv"
THEIRS = ROOT / "tests" / "data" / "reference_tests.txt"
CONTRACT = PACKAGE / "testing" / "store_contract.py"


def theirs() -> list[str]:
    """Return the names of the reference's tests, `Suite.test`."""
    return THEIRS.read_text("utf-8").split()


def rows() -> list[tuple[str, str]]:
    """Return the lines of the map: a name of theirs, and what tests it here."""
    with MAP.open(encoding="utf-8", newline="") as file:
        return [(f"{row['suite']}.{row['test']}", row["tested_by"]) for row in csv.DictReader(file)]


def node_ids() -> set[str]:
    """Return the node ids of all our tests; those of the store contract run with every store."""
    return {node for path in (*written_tests(), CONTRACT) for node in _nodes(path, parsed(path).body, "")}


def _nodes(path: Path, body: list[ast.stmt], within: str) -> Iterator[str]:
    for statement in body:
        if isinstance(statement, ast.ClassDef):
            yield from _nodes(path, statement.body, f"{within}{statement.name}::")
        elif isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef) and statement.name.startswith("test_"):
            yield f"{name_of(path)}::{within}{statement.name}"


def test_every_row_is_in_the_map() -> None:
    """Each test of the reference has one line, but for those of the fifth generation, which are named above."""
    named = Counter(name for name, _ in rows())
    assert set(theirs()) == set(named) | FIVE_G
    assert named.keys() & FIVE_G == set()
    assert {name for name, times in named.items() if times > 1} == set()
    assert set(theirs()) >= FIVE_G


def test_every_row_has_a_test_or_a_reason() -> None:
    """A line names tests of ours that are there, or says why there is none."""
    known = node_ids()
    wrong = {}
    for name, tested_by in rows():
        if tested_by.startswith(DOES_NOT_APPLY):
            if len(tested_by) < len(DOES_NOT_APPLY) + SHORTEST_REASON:
                wrong[name] = tested_by
        elif missing := [node for node in tested_by.split("; ") if node not in known]:
            wrong[name] = ", ".join(missing)
    assert wrong == {}


def test_docstrings_name_rows_that_there_are() -> None:
    """Who says `reference:` names tests of the reference; `test_some_*` and `_ending` stand for several."""
    names = {name.partition(".")[2] for name in theirs()}
    unknown = {
        f"{name_of(path)}:{function.name}: {word}"
        for path in written_tests()
        for function in functions(path)
        for said in _said_after_reference(ast.get_docstring(function) or "")
        for word in re.findall(r"\b(?:test|end_to_end)_\w+\*?", said)
        if not _is_known(word, names)
    }
    assert unknown == set()


def _said_after_reference(text: str) -> list[str]:
    """Return the rest of each paragraph that names a row; sections of the reference's description are none."""
    return [said for said in re.findall(r"reference: ((?:.+\n?)+)", text) if ".md" not in said]


def _is_known(word: str, names: set[str]) -> bool:
    if word.endswith("*"):
        return any(name.startswith(word[:-1]) for name in names)
    suites = {name.partition(".")[0] for name in theirs()}
    return word in names or word in suites
