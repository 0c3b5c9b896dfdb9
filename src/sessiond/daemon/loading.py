"""What the start does about memory: what is loaded stays, so that looking for garbage in it is in vain."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

WHILE_LOADING: Final = (100_000, 50, 100)
"""New containers between two looks at the youngest, and looks between two at the older ones (`gc.set_threshold`)."""


@contextmanager
def loading() -> Iterator[None]:
    """Look for garbage seldom; what is there at the end is never looked at again."""
    before = gc.get_threshold()
    gc.set_threshold(*WHILE_LOADING)
    try:
        yield
        gc.freeze()
    finally:
        gc.set_threshold(*before)
