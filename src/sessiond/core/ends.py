"""Why sessions end: the reasons that decisions give, and how each is told: as one of few, and in words."""

from enum import StrEnum
from typing import Final


class EndReason(StrEnum):
    """Why a session ended, as its owners and watchers are told; these names never change."""

    UNSPECIFIED = "UNSPECIFIED"
    CLIENT = "CLIENT"
    CANCELLED = "CANCELLED"
    CREATION_FAILED = "CREATION_FAILED"
    ACTIVATION_FAILED = "ACTIVATION_FAILED"
    TIMED_OUT = "TIMED_OUT"
    EXPIRED = "EXPIRED"
    IDLE = "IDLE"
    QUOTA_EXHAUSTED = "QUOTA_EXHAUSTED"
    POLICY = "POLICY"
    ENFORCEMENT_FAILED = "ENFORCEMENT_FAILED"
    ACCESS_LOST = "ACCESS_LOST"
    REPLACED = "REPLACED"
    OPERATOR = "OPERATOR"


ENDS: Final[dict[str, tuple[EndReason, str]]] = {
    "CLIENT": (EndReason.CLIENT, "a client ended it"),
    "CANCELLED": (EndReason.CANCELLED, "it was cancelled before it was agreed to"),
    "TIMED_OUT": (EndReason.TIMED_OUT, "nobody activated it in time"),
    "EXPIRED": (EndReason.EXPIRED, "its time was over"),
    "IDLE": (EndReason.IDLE, "nobody used it any more"),
    "ENDED": (EndReason.CLIENT, "the access side ended it"),
    "REPLACED": (EndReason.REPLACED, "the subscriber began another one in its place"),
    "ABORTED": (EndReason.POLICY, "the policy side aborted it"),
    "PERMANENT_FAILURE": (EndReason.POLICY, "the policy side answered with a permanent failure"),
    "QUOTA_EXHAUSTED": (EndReason.QUOTA_EXHAUSTED, "its final quota is used up"),
    "WALLET_EXHAUSTED": (EndReason.QUOTA_EXHAUSTED, "its wallet is empty"),
    "FLOWS_REFUSED": (EndReason.ENFORCEMENT_FAILED, "pipelined refused its flows"),
    "NOT_ATTACHED": (EndReason.ACCESS_LOST, "the access side did not know it any more after a restart"),
    "POLICY_REFUSED": (EndReason.CREATION_FAILED, "the policy side refused it"),
    "POLICY_SILENT": (EndReason.CREATION_FAILED, "the policy side did not answer"),
    "DRAINED": (EndReason.OPERATOR, "an operator drained the daemon"),
}
"""How the reasons of the core are told."""


def end_of(reason: str) -> tuple[EndReason, str]:
    """Return how a reason is told; one that has no other words is its own."""
    return ENDS.get(reason, (EndReason.UNSPECIFIED, reason))
