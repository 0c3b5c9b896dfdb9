"""Every requirement on sessions of our own API has tests against the running daemon, with its id in the name.

In memory and on Valkey; `test_w6_...` is a function, `TestW6` a class.
"""

import re
import subprocess
import sys
from collections import defaultdict
from typing import Final

import pytest

from tests.house.tree import ROOT

HOW_MANY: Final = {"W": 9, "L": 10, "P": 9}
"""The ids by kind: workflows, executions, sessions between nodes (P9: resumption)."""
STORES: Final = frozenset({"memory", "valkey"})
ONE_STORE: Final = {"W6": "how a session looks in Redis"}
"""What is about one store only, and why."""
OF_THE_REFERENCE: Final = frozenset({"test_large_reports.py"})
"""Modules whose tests have the id of a known problem of the reference in their names, which looks the same."""
NAMED: Final = re.compile(r"(?P<file>test_\w+\.py)::(?:Test(?P<of_class>[WLP]\d+)::|test_(?P<of_test>[wlp]\d+)_)")


def stores_by_id() -> dict[str, set[str]]:
    """Return with which stores the tests of each id run."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "tests/blackbox"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    found: dict[str, set[str]] = defaultdict(set)
    for line in listed.splitlines():
        named = NAMED.search(line)
        if named is not None and named["file"] not in OF_THE_REFERENCE:
            parameters = set(re.split(r"[-\[\]]", line.partition("[")[2]))
            found[(named["of_class"] or named["of_test"]).upper()] |= STORES & parameters
    return found


@pytest.mark.slow
def test_every_requirement_has_tests_on_every_store() -> None:
    """An id without a test is a promise that nobody looks after; so is one that is kept on one store only."""
    ids = {f"{kind}{number}" for kind, count in HOW_MANY.items() for number in range(1, count + 1)}
    found = stores_by_id()
    assert found.keys() == ids
    lacking = {name: STORES - stores for name, stores in found.items() if stores != STORES}
    assert lacking.keys() == ONE_STORE.keys(), lacking
