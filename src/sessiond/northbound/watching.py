"""How a stream tells its client what a subscription brings; shared by the surfaces that have such streams."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from typing import Any, Final, Protocol, TypeVar

from grpc import aio

from sessiond.core.errors import SessionError

Item_co = TypeVar("Item_co", covariant=True)
Item = TypeVar("Item")

PASSED_AT_ONCE: Final = 100
"""After so many things that have no message, others have their turn."""


class Source(AbstractContextManager[Any], Protocol[Item_co]):
    """Where what is told comes from, as long as it is entered; one that is cut off says why."""

    cut_off: SessionError | None

    def __aiter__(self) -> AsyncIterator[Item_co]: ...

    def when_cut_off(self, call: Callable[[], object]) -> None:
        """Call this, too, when it is cut off."""
        ...


async def tell(subscription: Source[Item], context: Any, message: Callable[[Item], Any]) -> None:
    """Write what a subscription brings until the client goes; one that is stuck is cut off in the middle of a write.

    For that it writes to the context, where a generator would not hear of it. Metadata goes out at once, so that a
    client knows from when on it misses nothing. What has no message (None) is passed over.
    """
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("an RPC runs in a task")
    with subscription:
        subscription.when_cut_off(task.cancel)
        try:
            await _begin(context)
            passed_over = 0
            async for item in subscription:
                if (said := message(item)) is not None:
                    await context.write(said)
                elif (passed_over := passed_over + 1) % PASSED_AT_ONCE == 0:
                    await asyncio.sleep(0)
        except asyncio.CancelledError:
            if subscription.cut_off is None:
                raise
            task.uncancel()
            raise subscription.cut_off from None
        except aio.InternalError:  # the client has gone: a write may hear of that before gRPC cancels the task
            raise asyncio.CancelledError from None


async def _begin(context: Any) -> None:
    """Send metadata to the end: a call that is ended half-way through it would send it again, which gRPC refuses."""
    sending = asyncio.ensure_future(context.send_initial_metadata(()))
    try:
        await asyncio.shield(sending)
    except asyncio.CancelledError:
        await asyncio.wait([sending])
        raise
