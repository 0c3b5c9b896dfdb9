"""A daemon as far as the store knows it, in a process of its own: creates and changes sessions until it is fenced."""

import asyncio
import sys
from itertools import count

from sessiond.app.ports.store import Conflict, Create, Update
from sessiond.core.errors import Fenced
from sessiond.testing.store_contract import session, touch
from tests.store.stores import opened

FENCED = 3


async def write(url: str) -> None:
    """Write as fast as it goes, several sessions at once."""
    store = await opened(url)
    print("writing", flush=True)
    try:
        for number in count():
            names = [f"IMSI{number * 10 + place}-{place}" for place in range(10)]
            await store.write([Create(session(name)) for name in names])
            for revision in range(1, 4):
                answers = await store.write([Update(name, revision, touch()) for name in names])
                assert Conflict() not in answers
    finally:
        await store.close()


if __name__ == "__main__":
    try:
        asyncio.run(write(sys.argv[1]))
    except Fenced:
        sys.exit(FENCED)
