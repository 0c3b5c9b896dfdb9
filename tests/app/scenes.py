"""What the tests of the application play with: subscribers, static rules, policy answers, and a gateway."""

from collections.abc import Sequence
from typing import Any

from msgspec import structs

from sessiond.app.ports.store import Store
from sessiond.core.charging import CreditAnswer
from sessiond.core.effects import SavedEffect
from sessiond.core.monitors import MonitorAnswer
from sessiond.core.session import Context, LteContext, PolicyAnswer, Session
from sessiond.store.memory import MemoryStore
from sessiond.testing.gateway import SimulatedGateway
from tests.core import builders
from tests.core.builders import both, catalogue, free, grant, ocs, pcrf, static

RULES = catalogue(ocs("video", 1), ocs("web", 2), pcrf("voice", "m"), both("mixed", 1, "m"), free("free"))


def gateway(store: Store | None = None, **fields: Any) -> SimulatedGateway:
    """Return a gateway that knows the static rules."""
    return SimulatedGateway(store or MemoryStore(), **{"catalogue": RULES, **fields})


def ue(number: int = 1, apn: str = "internet", **fields: Any) -> Context:
    """Return the context of a subscriber with an address of its own; each APN has its own address and bearer too."""
    line = sum(apn.encode()) % 200
    lte = LteContext(bearer_id=5 + line % 10, imei=f"35{number:013d}")
    known: dict[str, Any] = {
        "subscriber": f"IMSI00101{number:010d}",
        "apn": apn,
        "ue_ipv4": f"10.{line}.{number // 256}.{number % 256}",
        "lte": lte,
    }
    return Context(**{**known, **fields})


def wifi(number: int = 1, **fields: Any) -> Context:
    """Return the context of a carrier wifi subscriber."""
    return structs.replace(builders.wlan_context(**fields), subscriber=f"IMSI00101{number:010d}")


def plan(
    *rules: str, credits_: Sequence[CreditAnswer] = (), monitors: Sequence[MonitorAnswer] = (), **fields: Any
) -> PolicyAnswer:
    """Return an answer that allows a session with static rules, quotas and monitors."""
    return PolicyAnswer(installs=static(*rules), credits=tuple(credits_), monitors=tuple(monitors), **fields)


VIDEO = plan("video", credits_=[grant("1")])
"""One rule on one credit of 1000 octets."""


def effects(session: Session) -> list[SavedEffect]:
    """Return what the world must still be told about a session, oldest first."""
    return [session.effects[effect_id] for effect_id in sorted(session.effects)]
