"""Every problem that the reference is known to have has a regression test of ours, with its id in the name."""

import re
from collections import Counter

from tests.house.tree import functions, written_tests

HOW_MANY = {"p": 7, "r": 10, "s": 10, "c": 5, "g": 16, "b": 7}
"""The ids by kind: performance, races, lost state, crashes, charging (`g`), rules and bearers."""

# Problems of what is not served here, by name.
EXCEPTED = {
    "s5": "5G: versions and counters of PDU sessions (requirement G17, later)",
    "c4": "5G: a second answer to one request, lists and rules of PDU sessions (requirement G17, later)",
    "c5": "FeG: a panic of the federation gateway, which is not part of this program",
}


def test_every_known_problem_has_a_regression_test() -> None:
    """A problem without a test comes back; one that is excepted and has a test is none any more."""
    ids = {f"{kind}{number}" for kind, count in HOW_MANY.items() for number in range(1, count + 1)}
    named = Counter(
        problem for path in written_tests() for function in functions(path) for problem in _ids_in(function.name)
    )
    assert ids - named.keys() == set(EXCEPTED)
    assert named.keys() - ids == set()


def _ids_in(name: str) -> list[str]:
    """Return the ids at the beginning of a test's name; it may be about several problems."""
    found = re.match(r"test_((?:[prscgb]\d+_)+)", name)
    return found[1].split("_")[:-1] if found else []
