"""How many sessions there are in each state, and how much each peer must still be told of them."""

from collections import Counter

from sessiond.app.commit import Outcome
from sessiond.app.delivery import PEERS
from sessiond.core.effects import Saved
from sessiond.core.lifecycle import State
from sessiond.core.session import Session, finished


class Tally:
    """Counts along with every change, so that nobody has to look at all sessions to know."""

    def __init__(self) -> None:
        self._states: Counter[State] = Counter()
        self._pending: Counter[str] = Counter()

    def observe(self, outcome: Outcome) -> None:
        """Take a change into account."""
        before, after = outcome.before, outcome.after
        if before is not None:
            self._states[before.head.state] -= 1
        if not finished(after):
            self._states[after.head.state] += 1
        if before is None:
            self._owe(list(after.effects.values()), 1)
        elif before.effects is not after.effects:
            self._owe([effect for key, effect in after.effects.items() if key not in before.effects], 1)
            self._owe([effect for key, effect in before.effects.items() if key not in after.effects], -1)

    def take_up(self, session: Session) -> None:
        """Take a session of an earlier run into account."""
        self.observe(Outcome(None, session))

    def states(self) -> dict[State, int]:
        """Return the number of sessions in each state that one has been in."""
        return dict(self._states)

    def pending(self) -> dict[str, int]:
        """Return the number of effects that each peer must still hear of, by its name in the configuration."""
        return dict(self._pending)

    def _owe(self, effects: list[Saved], sign: int) -> None:
        for effect in effects:
            self._pending[PEERS[type(effect)]] += sign
