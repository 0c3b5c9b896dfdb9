"""The steps of a daemon's work at which it can be killed, by name, and the fuse that does it."""

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Final

PEER_CALLS: Final = {
    "CreateSession": "policy.create",
    "UpdateSession": "policy.update",
    "TerminateSession": "policy.terminate",
    "SetupPolicyFlows": "data_plane.set_up",
    "ActivateFlows": "data_plane.activate",
    "DeactivateFlows": "data_plane.deactivate",
    "CreateBearer": "access.create_bearer",
    "DeleteBearer": "access.delete_bearer",
    "GetSubscriberIPTable": "attachments.attachments",
}
"""What the peers are asked on the wire, and how the daemon's ports name it."""
STORE_STEPS: Final = ("read.after", "write.before", "write.sent", "write.after")
"""After the read and before the decision; decided and not written; sent and not answered; written and not told."""
LOAD_STEPS: Final = ("load.during", "load.after")
REPLY_SENT: Final = "reply.sent"
"""The caller has its answer; of what was decided nothing has left the daemon."""
BEFORE_STEPS: Final = tuple(f"{call}.before" for call in PEER_CALLS.values())
"""Saved and not sent to the peer."""
AFTER_STEPS: Final = tuple(f"{call}.after" for call in PEER_CALLS.values())
"""The peer has answered, and that is written nowhere."""
LOST_STEPS: Final = tuple(f"{call}.lost" for call in PEER_CALLS.values())
"""The peer has it, and its answer never arrives; here it is the peer that kills."""
START: Final = "any moment of the start"
STOP: Final = "any moment of the stop"
MOMENTS: Final = ("any moment", START, STOP)
"""Not steps: the clock decides."""
STEPS: Final = (*STORE_STEPS, *LOAD_STEPS, REPLY_SENT, *BEFORE_STEPS, *AFTER_STEPS, *LOST_STEPS)
ONCE: Final = (
    "load.after",
    *(
        f"{call}.{when}"
        for call in ("data_plane.set_up", "attachments.attachments")
        for when in ("before", "after", "lost")
    ),
)
"""Steps that a daemon reaches once in its life."""

REPLY_LEAVES_S: Final = 0.01
"""After that an answer has left the daemon."""
HELD_S: Final = 0.03
"""So long peers are not called if the daemon is to die between an answer and its effects."""


def kill_me() -> None:
    """Be gone at once, as with kill -9."""
    os.kill(os.getpid(), signal.SIGKILL)


class Fuse:
    """Goes off when a step is reached for the n-th time."""

    def __init__(self, step: str, count: int, kill: Callable[[], None] = kill_me) -> None:
        self.step = step
        self._left = count
        self._kill = kill

    def reached(self, step: str) -> None:
        """Take note of a step that is reached."""
        if self.is_last(step):
            self._kill()
        self._left -= step == self.step

    def is_last(self, step: str) -> bool:
        """Whether it goes off when this step is reached the next time."""
        return step == self.step and self._left == 1

    def answered(self) -> None:
        """Take note of an answer to a call, which is about to leave the daemon."""
        if self.is_last(REPLY_SENT):
            asyncio.get_running_loop().call_later(REPLY_LEAVES_S, self._kill)
        self._left -= self.step == REPLY_SENT

    async def hold(self) -> None:
        """Wait if the daemon is to die between an answer and what comes of it."""
        if self.step == REPLY_SENT:
            await asyncio.sleep(HELD_S)
