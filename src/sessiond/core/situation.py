"""What every decision depends on beside the session itself."""

from msgspec import Struct

from sessiond.core.rules import Catalogue
from sessiond.core.settings import Settings


class Situation(Struct, frozen=True, gc=False):
    """The time (unix ms), the operator's settings and the static rules at the moment of a decision.

    `counting_since_ms` says since when the data plane has been there to report what it counts; None: it is not.
    """

    now_ms: int
    settings: Settings
    catalogue: Catalogue
    counting_since_ms: int | None = 0
