"""Scripted peers answer as they are told, and remember what they were asked."""

import asyncio

import pytest
from msgspec import structs

from sessiond.app.ports.peers import UsageReport
from sessiond.core.credit import Report
from sessiond.core.decide.answer import UpdateAnswer
from sessiond.core.effects import LogEvent
from sessiond.core.errors import PeerFailed
from sessiond.core.session import Gateway, PolicyAnswer
from sessiond.testing import peers
from sessiond.testing.loop import settle
from sessiond.testing.peers import USUAL, Lost, ScriptedPeers, ScriptedPolicy, refused, silent, unreachable
from sessiond.testing.store_contract import session

SESSION = session()


async def test_a_script_is_used_up_in_order() -> None:
    """Each answer is given once: values, functions of the arguments, failures; after them the usual one."""
    policy = ScriptedPolicy()
    online = PolicyAnswer(online=True)
    policy.script("create", online, refused(), lambda asked: PolicyAnswer(online=asked is SESSION), USUAL)
    assert await policy.create(SESSION) == online
    with pytest.raises(PeerFailed) as failure:
        await policy.create(SESSION)
    assert (failure.value.answered, failure.value.reached) == (True, True)
    assert await policy.create(SESSION) == online
    assert await policy.create(SESSION) == PolicyAnswer()
    assert await policy.create(SESSION) == PolicyAnswer()
    assert [call.arguments for call in policy.calls("create")] == [(SESSION,)] * 5


async def test_what_is_usual_can_be_changed_and_forgotten() -> None:
    """A usual answer is given whenever the script is used up, until it is forgotten."""
    policy = ScriptedPolicy()
    policy.usually("create", unreachable())
    policy.script("create", PolicyAnswer())
    await policy.create(SESSION)
    for _ in range(3):
        with pytest.raises(PeerFailed) as failure:
            await policy.create(SESSION)
        assert (failure.value.answered, failure.value.reached) == (True, False)
    policy.forget()
    assert await policy.create(SESSION) == PolicyAnswer()


async def test_what_is_usual_can_be_held_and_lost() -> None:
    """The usual answer of a held or lost call is the one that the test has made usual."""
    policy = ScriptedPolicy()
    asked: list[str] = []
    policy.usually("terminate", lambda session: asked.append(session.key))
    policy.script("terminate", Lost())
    with pytest.raises(PeerFailed):
        await policy.terminate(SESSION)
    policy.hold("terminate").release()
    await policy.terminate(SESSION)
    assert asked == [SESSION.key] * 2


async def test_an_end_is_one_request() -> None:
    """An end that is told again is the same one; under another number it is a contradiction."""
    policy = ScriptedPolicy()
    await policy.terminate(SESSION)
    await policy.terminate(SESSION)
    assert (policy.ledger.ended, policy.ledger.contradictions) == ({SESSION.key: 2}, [])
    await policy.terminate(structs.replace(SESSION, gateway=Gateway(request_number=9)))
    assert len(policy.ledger.contradictions) == 1


async def test_a_held_answer_waits_for_the_test() -> None:
    """A call hangs until it is released, with whatever the test says then."""
    policy = ScriptedPolicy()
    held = policy.hold("create")
    call = asyncio.create_task(policy.create(SESSION))
    assert (await policy.called("create")).arguments == (SESSION,)
    await settle()
    assert not call.done()
    held.release(silent())
    with pytest.raises(PeerFailed) as failure:
        await call
    assert not failure.value.answered


async def test_a_lost_answer_was_given() -> None:
    """A peer whose answer is lost has done what it was asked."""
    everyone = ScriptedPeers()
    everyone.directory.script("write", Lost())
    with pytest.raises(PeerFailed) as failure:
        await everyone.directory.write(SESSION)
    assert not failure.value.answered
    assert everyone.directory.records == {SESSION.scope: SESSION.key}


async def test_one_journal_has_the_calls_of_all() -> None:
    """The order of calls to different peers can be seen."""
    everyone = ScriptedPeers()
    await everyone.policy.terminate(SESSION)
    await everyone.events.log(LogEvent("something", {}))
    await everyone.wifi.terminate(SESSION)
    await everyone.policy.terminate_stale("IMSI1", "IMSI1-1")
    assert [(call.peer, call.method) for call in everyone.journal.calls] == [
        ("session_proxy", "terminate"),
        ("eventd", "log"),
        ("aaa", "terminate"),
        ("session_proxy", "terminate_stale"),
    ]


async def test_waiting_for_a_call_that_never_comes_says_what_came(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that waits in vain fails, and names the calls that there were."""
    monkeypatch.setattr(peers, "PATIENCE_S", 0.01)
    everyone = ScriptedPeers()
    await everyone.policy.terminate(SESSION)
    with pytest.raises(AssertionError, match=r"pipelined.activate was not called 1 times.*session_proxy.terminate"):
        await everyone.data_plane.called("activate")


def test_a_method_that_does_not_exist_cannot_be_scripted() -> None:
    """A slip of the pen is no script."""
    policy = ScriptedPolicy()
    for use in (policy.hold, policy.calls, policy.script):
        with pytest.raises(AttributeError, match="never asked to 'updat'"):
            use("updat")


async def test_usage_is_booked_once_for_each_request() -> None:
    """A repeated report adds nothing; one of other contents under the same number is a contradiction."""
    policy = ScriptedPolicy()
    taken = UsageReport(SESSION, frozenset({1}))
    policy.script("update", Lost(), silent())
    for _ in range(2):
        with pytest.raises(PeerFailed):
            await policy.update([taken])
    answers = await policy.update([taken])
    assert answers[SESSION.key].monitors
    assert policy.ledger.monitor(SESSION.key, "m").tx == 1
    assert policy.ledger.contradictions == []
    monitor = structs.replace(SESSION.monitors["m"], in_flight=Report(1, 5, 0, "USAGE_REPORT"))
    await policy.update([UsageReport(structs.replace(SESSION, monitors={"m": monitor}), frozenset({1}))])
    assert len(policy.ledger.contradictions) == 1


async def test_usage_that_an_answer_does_not_take_is_not_booked() -> None:
    """A report that the answer does not mention, and one of another number, are not taken."""
    policy = ScriptedPolicy()
    policy.script("update", {SESSION.key: UpdateAnswer(numbers=frozenset({1}))}, {})
    for numbers in ({1}, {1}, {2}):
        await policy.update([UsageReport(SESSION, frozenset(numbers))])
    assert policy.ledger.monitor(SESSION.key, "m").tx == 0
