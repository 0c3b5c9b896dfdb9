"""The static rules in force: those of the file and those of policydb's Redis together."""

import json
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from sessiond.app.situation import Circumstances
from sessiond.core.errors import Unavailable
from sessiond.core.rules import Catalogue, PolicyRule
from sessiond.core.settings import Settings
from sessiond.daemon.config import ConfigError, Policies
from sessiond.daemon.rules import RulesFile, StaticRules, static_rules
from sessiond.testing.clock import HandClock


class Source:
    """A source that has what a test gives it, or is away."""

    def __init__(self, *rules: PolicyRule) -> None:
        self.rules: Catalogue | None = {rule.id: rule for rule in rules}
        self.closed = False

    async def read(self) -> Catalogue:
        """Return the rules."""
        if self.rules is None:
            raise Unavailable("RULES_UNAVAILABLE", "away")
        return self.rules

    async def close(self) -> None:
        """Remember that."""
        self.closed = True


def written(folder: Path, **groups: int) -> RulesFile:
    """Write a file of rules with their rating groups."""
    path = folder / "rules.json"
    path.write_text(json.dumps({"rules": [{"id": name, "ratingGroup": group} for name, group in groups.items()]}))
    return RulesFile(str(path), folder / "sessiond.yml")


def groups_of(catalogue: Catalogue) -> dict[str, int]:
    """Return the rating groups of rules."""
    return {rule_id: rule.rating_group for rule_id, rule in catalogue.items()}


def nothing_known() -> Circumstances:
    """Return circumstances without rules."""
    return Circumstances(HandClock(), Settings(), {})


async def test_redis_overrides_the_file(tmp_path: Path) -> None:
    """Where both have a rule of an id, that of Redis is in force."""
    rules = StaticRules(written(tmp_path, a=1, b=1), Source(PolicyRule(id="b", rating_group=2), PolicyRule(id="c")))
    assert groups_of(await rules.read()) == {"a": 1, "b": 2, "c": 0}


async def test_what_changes_in_either_is_taken(tmp_path: Path) -> None:
    """A change of the file leaves the rules of Redis as they are, and the other way round."""
    source = Source(PolicyRule(id="b", rating_group=2))
    rules, circumstances = StaticRules(written(tmp_path, a=1), source), nothing_known()
    circumstances.catalogue = before = await rules.read()
    await rules.refresh(circumstances)
    assert circumstances.catalogue is before
    written(tmp_path, a=10, aa=11)
    await rules.refresh(circumstances)
    assert groups_of(circumstances.catalogue) == {"a": 10, "aa": 11, "b": 2}
    source.rules = {}
    await rules.refresh(circumstances)
    assert groups_of(circumstances.catalogue) == {"a": 10, "aa": 11}


async def test_a_redis_that_is_away_leaves_its_rules_in_force(tmp_path: Path) -> None:
    """Its rules stay until it is back, it is said once that it went and once that it came, and the file goes on."""
    source = Source(PolicyRule(id="b", rating_group=2))
    rules, circumstances = StaticRules(written(tmp_path, a=1), source), nothing_known()
    circumstances.catalogue = await rules.read()
    known, source.rules = source.rules, None
    with capture_logs() as logged:
        await rules.refresh(circumstances)
        written(tmp_path, a=10, aa=11)
        await rules.refresh(circumstances)
        assert groups_of(await rules.read()) == {"a": 10, "aa": 11, "b": 2}
        source.rules = known
        await rules.refresh(circumstances)
    assert groups_of(circumstances.catalogue) == {"a": 10, "aa": 11, "b": 2}
    assert [line["event"] for line in logged] == ["rules_unavailable", "rules_loaded", "rules_available_again"]


async def test_a_redis_that_is_away_at_the_start_holds_nothing_up(tmp_path: Path) -> None:
    """The rules of the file are there at once, those of Redis as soon as it is."""
    source = Source(PolicyRule(id="b"))
    known, source.rules = source.rules, None
    rules, circumstances = StaticRules(written(tmp_path, a=1), source), nothing_known()
    circumstances.catalogue = await rules.read()
    assert set(circumstances.catalogue) == {"a"}
    source.rules = known
    await rules.refresh(circumstances)
    assert set(circumstances.catalogue) == {"a", "b"}


async def test_a_file_with_mistakes_leaves_its_rules_in_force(tmp_path: Path) -> None:
    """What is wrong is logged once; the rules of Redis are taken all the same."""
    source = Source()
    rules, circumstances = StaticRules(written(tmp_path, a=1), source), nothing_known()
    circumstances.catalogue = await rules.read()
    (tmp_path / "rules.json").write_text("{")
    source.rules = {"b": PolicyRule(id="b")}
    with capture_logs() as logged:
        await rules.refresh(circumstances)
        await rules.refresh(circumstances)
    assert set(circumstances.catalogue) == {"a", "b"}
    assert [line["event"] for line in logged] == ["rules_file_refused", "rules_loaded"]
    with pytest.raises(ConfigError):
        await rules.read()


async def test_the_source_is_closed_with_the_rules(tmp_path: Path) -> None:
    """Nothing is left open."""
    source = Source()
    await StaticRules(written(tmp_path), source).close()
    assert source.closed
    await StaticRules(written(tmp_path)).close()


async def test_nothing_configured_is_no_rules(tmp_path: Path) -> None:
    """Without a file and without Redis there are no static rules."""
    rules, circumstances = static_rules(Policies(), tmp_path / "sessiond.yml"), nothing_known()
    assert await rules.read() == {}
    await rules.refresh(circumstances)
    assert circumstances.catalogue == {}


async def test_redis_is_asked_if_it_is_configured(tmp_path: Path) -> None:
    """policies.redis_url is where the rules are looked for."""
    rules = static_rules(Policies(redis_url=f"unix://{tmp_path}/nobody"), tmp_path / "sessiond.yml")
    with capture_logs() as logged:
        assert await rules.read() == {}
    assert [line["event"] for line in logged] == ["rules_unavailable"]
    await rules.close()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return a configuration that names a Redis in its third line."""
    file = tmp_path / "sessiond.yml"
    file.write_text("# rules\npolicies:\n  redis_url: redis://127.0.0.1:1/0\n", encoding="utf-8")
    return file


def test_a_url_with_an_unknown_option_is_a_problem_of_its_line(config: Path) -> None:
    """The problem has file, line and key."""
    with pytest.raises(ConfigError, match=r"sessiond\.yml:3: policies\.redis_url: cannot be used: .*colour"):
        static_rules(Policies(redis_url="redis://127.0.0.1:1/0?colour=red"), config)


def test_a_missing_package_is_a_problem_of_its_line(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has not installed the client of Redis is told how."""
    monkeypatch.setitem(sys.modules, "sessiond.store.redis_rules", None)
    with pytest.raises(ConfigError, match=r"sessiond\.yml:3: policies\.redis_url: .*sessiond\[redis\]"):
        static_rules(Policies(redis_url="redis://127.0.0.1:1/0"), config)
