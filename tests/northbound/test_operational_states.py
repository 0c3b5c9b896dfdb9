"""What the orchestrator is shown of a gateway's sessions (southbound.md 8)."""

import json
from typing import Any

from msgspec import structs

from sessiond.core.rules import Installed, Rule
from sessiond.core.session import Session
from sessiond.northbound.gateway.messages import operational_state
from tests.core.builders import (
    KEY,
    NOW_MS,
    SUBSCRIBER,
    asked,
    catalogue,
    dynamic,
    free,
    lte_context,
    situation,
    started,
    static,
)

CATALOGUE = catalogue(free("static-1"))


async def shown(*sessions: Session, now_ms: int = NOW_MS + 61_500) -> Any:
    """Return the JSON that is shown of sessions, by subscriber."""
    return json.loads(await operational_state(sessions, CATALOGUE, now_ms))["subscribers"]


async def test_no_sessions() -> None:
    """A gateway without sessions has no subscribers.

    reference: OperationalStatesHandlerTest.test_get_operational_states.
    """
    assert await shown() == {}


async def test_a_session() -> None:
    """A session is shown under its subscriber and APN, with its rules in force; numbers are numbers.

    reference: OperationalStatesHandlerTest.test_get_operational_states.
    """
    life = started(situation(free("static-1")), installs=[*static("static-1"), *dynamic(free("dynamic-1"))])
    (entry,) = (await shown(life.session))[SUBSCRIBER]["magma.ipv4"]
    rules = [json.loads(rule) for rule in entry.pop("active_policy_rules")]
    assert entry == {
        "session_id": KEY,
        "msisdn": "5550100001",
        "ipv4": "192.168.128.11",
        "apn": "magma.ipv4",
        "session_start_time": NOW_MS // 1000,
        "lifecycle_state": "SESSION_ACTIVE",
        "active_duration_sec": 61,
    }
    assert [rule["id"] for rule in rules] == ["static-1", "dynamic-1"]


async def test_sessions_of_two_subscribers() -> None:
    """Each subscriber has its own entry, and each APN its own list.

    reference: OperationalStatesHandlerTest.test_get_operational_states.
    """
    at = situation()
    one = started(at).session
    other = started(at, context=structs.replace(lte_context(apn="ims", ue_ipv4="10.0.0.2"), subscriber="IMSI2")).session
    again = started(at, context=lte_context(apn="ims")).session
    found = await shown(one, other, again)
    assert {subscriber: set(apns) for subscriber, apns in found.items()} == {
        SUBSCRIBER: {"magma.ipv4", "ims"},
        "IMSI2": {"ims"},
    }
    assert found["IMSI2"]["ims"][0]["ipv4"] == "10.0.0.2"


async def test_a_session_that_is_about_to_go() -> None:
    """Its state is named as the orchestrator knows it, and its duration stands still."""
    life = started(situation())
    life.later(10_000)
    life.release()
    (entry,) = (await shown(life.session))[SUBSCRIBER]["magma.ipv4"]
    assert (entry["lifecycle_state"], entry["active_duration_sec"]) == ("SESSION_RELEASED", 10)
    (entry,) = (await shown(asked(situation()).session))[SUBSCRIBER]["magma.ipv4"]
    assert entry["lifecycle_state"] == "SESSION_CREATING"


async def test_rules_that_are_not_in_force() -> None:
    """A rule that waits for its time, or that nobody defines any more, is not shown; a final action is."""
    life = started(situation(), installs=dynamic(free("dynamic-1")))
    life.decide(lambda draft: draft.put("rules", "lost", Rule(version=1, gx=Installed())))
    life.decide(lambda draft: draft.put("rules", "later", Rule(gx=Installed(free("later"), scheduled=True))))
    life.decide(lambda draft: draft.put("rules", "redirect", Rule(version=1, gy=free("redirect"))))
    (entry,) = (await shown(life.session))[SUBSCRIBER]["magma.ipv4"]
    assert [json.loads(rule)["id"] for rule in entry["active_policy_rules"]] == ["dynamic-1", "redirect"]
