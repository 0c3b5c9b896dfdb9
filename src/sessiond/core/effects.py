"""What the world must be told after a change: a value each; the app carries it out.

Saved effects are stored with the session in the same write and struck off when the peer has acknowledged them, so they
survive a crash and may be delivered twice. The others are news: lost with the process, and nobody is the worse for it.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, TypeAlias

from msgspec import Struct

from sessiond.core.rules import Teids


class QuotaState(StrEnum):
    """Whether a carrier wifi subscriber has anything left to spend."""

    VALID_QUOTA = "VALID_QUOTA"
    NO_QUOTA = "NO_QUOTA"
    TERMINATE = "TERMINATE"


class VersionedRule(Struct, frozen=True, gc=False):
    """A rule id with the version it has from now on."""

    id: str
    version: int


class SavedEffect(Struct, frozen=True, gc=False, tag=True, kw_only=True):
    """Base of the effects that must not be lost; `not_before_ms` holds one back until that time."""

    not_before_ms: int = 0


class ActivateFlows(SavedEffect, frozen=True, gc=False, tag=True, kw_only=True):
    """Tell pipelined to install the flows of some rules on one tunnel; with no rules, the default drop flow only."""

    teids: Teids
    gy: bool = False
    rules: tuple[VersionedRule, ...] = ()


class DeactivateFlows(SavedEffect, frozen=True, gc=False, tag=True, kw_only=True):
    """Tell pipelined to remove the flows of some rules on one tunnel; `everything`: all of the subscriber's."""

    teids: Teids
    gy: bool = False
    rules: tuple[VersionedRule, ...] = ()
    everything: bool = False


class CreateBearer(SavedEffect, frozen=True, gc=False, tag=True, kw_only=True):
    """Ask the MME for dedicated bearers for some rules."""

    rules: tuple[str, ...]


class DeleteBearer(SavedEffect, frozen=True, gc=False, tag=True, kw_only=True):
    """Ask the MME to take down bearers."""

    bearer_ids: tuple[int, ...]


class TerminateAccess(SavedEffect, frozen=True, gc=False, tag=True, kw_only=True):
    """Tell the AAA server that a carrier wifi session is over."""


class DeleteMacFlow(SavedEffect, frozen=True, gc=False, tag=True, kw_only=True):
    """Tell pipelined to forget the MAC address of a carrier wifi session."""


class UpdateQuotaState(SavedEffect, frozen=True, gc=False, tag=True, kw_only=True):
    """Tell pipelined whether a carrier wifi subscriber has anything left to spend."""

    state: QuotaState


class ExportFlows(SavedEffect, frozen=True, gc=False, tag=True, kw_only=True):
    """Tell pipelined to export the flows of a session (IPFIX), which began at this time."""

    began_at_ms: int


class TerminateSession(SavedEffect, frozen=True, gc=False, tag=True, kw_only=True):
    """Tell the policy side that the session is over, with all usage not reported before (CCR-T)."""


class ReportUsage(Struct, frozen=True, gc=False):
    """News: the session has reports in flight that nobody is carrying yet."""


class LogEvent(Struct, frozen=True, gc=False):
    """News for eventd: its type, and its value as a JSON object."""

    type: str
    value: dict[str, Any]
    tag: str = ""


class WriteDirectoryRecord(Struct, frozen=True, gc=False):
    """News for directoryd: the session a subscriber has."""


class DeleteDirectoryRecord(Struct, frozen=True, gc=False):
    """News for directoryd: the subscriber has no session any more."""


Saved: TypeAlias = (
    ActivateFlows
    | DeactivateFlows
    | CreateBearer
    | DeleteBearer
    | TerminateAccess
    | DeleteMacFlow
    | UpdateQuotaState
    | ExportFlows
    | TerminateSession
)
News: TypeAlias = ReportUsage | LogEvent | WriteDirectoryRecord | DeleteDirectoryRecord


def in_order(effects: Mapping[str, Saved]) -> list[tuple[str, Saved]]:
    """Return effects with their ids in the order in which they were decided: ids are numbers, however many digits."""
    return sorted(effects.items(), key=lambda item: int(item[0]))
