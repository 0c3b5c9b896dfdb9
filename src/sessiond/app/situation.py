"""What decisions are made with: the clock, the operator's settings and the static rules of the moment."""

from typing import TYPE_CHECKING

from sessiond.app.ports.clock import Clock
from sessiond.core.rules import Catalogue
from sessiond.core.settings import Settings
from sessiond.core.situation import Situation

if TYPE_CHECKING:
    from collections.abc import Callable


class Circumstances:
    """Holds what may change while the daemon runs, and gives decisions a picture of it."""

    def __init__(self, clock: Clock, settings: Settings, catalogue: Catalogue) -> None:
        self.clock = clock
        self.settings = settings
        self.catalogue = catalogue
        self.counting_since_ms: Callable[[], int | None] = lambda: 0
        """Since when the data plane has been there to report what it counts; None while it is not."""

    def now(self) -> Situation:
        """Return the situation of this moment."""
        return Situation(self.clock.now_ms(), self.settings, self.catalogue, self.counting_since_ms())
