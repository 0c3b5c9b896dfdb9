"""Recollection: what was carried out is answered alike for ten minutes, and is not carried out again."""

import pytest

from sessiond.app import recollection as module
from sessiond.app.recollection import Recollection
from sessiond.core.decide.requests import REMEMBERED_MS, Request
from sessiond.core.errors import InvalidArgument
from sessiond.testing.clock import HandClock

ONE = Request("1", "what it says")


def test_an_answer_is_remembered_for_ten_minutes() -> None:
    """For the same request about the same subject; without an id nothing is."""
    clock = HandClock()
    known = Recollection[str](clock)
    known.keep("a", ONE, "done")
    known.keep("a", None, "not to be known again")
    clock.advance(REMEMBERED_MS - 1)
    assert known.answer("a", ONE) == "done"
    assert known.answer("b", ONE) is None
    assert known.answer("a", None) is None
    clock.advance(1)
    assert known.answer("a", ONE) is None


def test_an_id_is_for_one_request() -> None:
    """With other content it is refused."""
    known = Recollection[str](HandClock())
    known.keep("a", ONE, "done")
    with pytest.raises(InvalidArgument) as caught:
        known.answer("a", Request("1", "something else"))
    assert caught.value.reason == "REQUEST_ID_REUSED"


def test_the_oldest_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is an end to what is remembered."""
    monkeypatch.setattr(module, "MOST", 2)
    known = Recollection[str](HandClock())
    for number in range(3):
        known.keep(str(number), ONE, "done")
    assert [known.answer(str(number), ONE) for number in range(3)] == [None, "done", "done"]
