"""What every decision depends on beside the session itself."""

from msgspec import Struct

from sessiond.core.rules import Catalogue
from sessiond.core.settings import Settings


class Situation(Struct, frozen=True):
    """The time (unix ms), the operator's settings and the static rules at the moment of a decision."""

    now_ms: int
    settings: Settings
    catalogue: Catalogue
