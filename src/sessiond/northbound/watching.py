"""How a stream tells its client what a subscription brings; shared by the surfaces that have such streams."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from sessiond.app.notifications import Subscription

Item = TypeVar("Item")


async def tell(subscription: Subscription[Any, Item], context: Any, message: Callable[[Item], Any]) -> None:
    """Write what a subscription brings until the client goes; one that is stuck is cut off in the middle of a write.

    For that it writes to the context, where a generator would not hear of it. Metadata goes out at once, so that a
    client knows from when on it misses nothing.
    """
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("an RPC runs in a task")
    with subscription:
        subscription.when_cut_off(task.cancel)
        try:
            await _begin(context)
            async for item in subscription:
                await context.write(message(item))
        except asyncio.CancelledError:
            if subscription.cut_off is None:
                raise
            task.uncancel()
            raise subscription.cut_off from None


async def _begin(context: Any) -> None:
    """Send metadata to the end: a call that is ended half-way through it would send it again, which gRPC refuses."""
    sending = asyncio.ensure_future(context.send_initial_metadata(()))
    try:
        await asyncio.shield(sending)
    except asyncio.CancelledError:
        await asyncio.wait([sending])
        raise
