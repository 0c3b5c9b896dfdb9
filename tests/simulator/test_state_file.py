"""The file of the switch."""

from pathlib import Path

from sessiond.simulator import state_file
from sessiond.simulator.switch import started
from tests.simulator.scenes import activation, charged
from tests.simulator.test_switch import START, a_switch


def test_what_is_kept_is_read_again(tmp_path: Path) -> None:
    """Flows, versions, counters and ledger come back as they were."""
    file = tmp_path / "switch.json"
    switch = a_switch()
    switch.activate(activation((charged(), 3)))
    switch.advance(START + 1)
    state_file.keeper(file)(switch)
    assert state_file.read(file) == switch.state()


def test_a_later_state_takes_the_place_of_the_last(tmp_path: Path) -> None:
    """Nothing else is left in the folder, so that nobody reads half a state."""
    file = tmp_path / "switch.json"
    for second in (1, 2):
        state_file.write(file, started(None, START + second, switch_restarts=False))
    state = state_file.read(file)
    assert state is not None
    assert state.counted_until == START + 2
    assert list(tmp_path.iterdir()) == [file]


def test_there_may_be_no_file(tmp_path: Path) -> None:
    """The first start finds none; without a name nothing is written."""
    assert state_file.read(tmp_path / "switch.json") is None
    state_file.keeper(None)(a_switch())
    assert list(tmp_path.iterdir()) == []
