"""How the store is, and what can be promised with it, for the operator's eyes."""

from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from sessiond.daemon.config import Store
from sessiond.daemon.measured import MeasuredStore
from sessiond.northbound.operations import StoreStatus

_SECRET: Final = "password"  # noqa: S105, the name of a part of a URL


def store_status(config: Store, store: MeasuredStore) -> StoreStatus:
    """Return how the store is; that it is connected is known from the last write."""
    scheme = config.url.partition(":")[0]
    return StoreStatus(
        kind="memory" if config.in_memory else "redis+cluster" if scheme.endswith("+cluster") else "redis",
        url=without_password(config.url),
        connected=not store.last_error,
        survives=() if config.in_memory else ("restart of the daemon",),
        exclusive=config.exclusive or config.in_memory,
        epoch=store.epoch,
        last_error=store.last_error,
    )


def without_password(url: str) -> str:
    """Return a URL that may be shown."""
    parts = urlsplit(url)
    user_info, at, host = parts.netloc.rpartition("@")
    user = user_info.partition(":")[0]
    options = urlencode([(name, value) for name, value in parse_qsl(parts.query) if name != _SECRET])
    shown = f"{parts.scheme}://{user}{at if user else ''}{host}{parts.path}"
    return (f"{shown}?{options}" if options else shown) if "://" in url else url
