"""simulation.yml: what is understood, what is refused and how that is said."""

from pathlib import Path

import msgspec
import pytest
import yaml

from sessiond.simulator import config
from sessiond.simulator.config import ConfigError, Plans, Simulation, load, members, parse, scaled
from sessiond.simulator.rules import policy_file

FILE = Path(__file__).parents[2] / "config" / "simulation.yml"


def keys_of(part: type[msgspec.Struct]) -> set[str]:
    """Return the keys of a part of the file."""
    return set(part.__struct_fields__)


def keys_in(node: object) -> set[str]:
    """Return every key that is written anywhere in a document."""
    if isinstance(node, dict):
        return set(node) | {key for value in node.values() for key in keys_in(value)}
    return {key for item in node for key in keys_in(item)} if isinstance(node, list) else set()


def test_the_file_shows_every_key() -> None:
    """What can be set is set in config/simulation.yml, with a comment nearby."""
    parts = [value for value in vars(config).values() if isinstance(value, type) and issubclass(value, config.Part)]
    known = {key for part in parts for key in keys_of(part)}
    assert known == keys_in(yaml.safe_load(FILE.read_text(encoding="utf-8")))


def test_every_section_of_the_file_is_explained() -> None:
    """Each section has a comment before its first line."""
    lines = FILE.read_text(encoding="utf-8").splitlines()
    for section in Simulation.__struct_fields__:
        index = next(number for number, line in enumerate(lines) if line.startswith(f"{section}:"))
        assert any(line.startswith("#") for line in lines[index - 2 : index]), section


def test_the_file_has_twenty_subscribers_on_four_plans() -> None:
    """This is what `scripts/run` promises."""
    everyone = members(load(FILE).subscribers)
    assert len(everyone) == 20
    assert {plan for _, plan in everyone} == {"plain", "prepaid", "monitored", "unlimited"}


def test_dynamic_rules_are_not_in_the_policy_file() -> None:
    """The gateway knows static rules by id; the policy side sends the others whole."""
    simulation = parse(
        "rules: [{id: a, rating_group: 1, service_identifier: 2}, {id: b, monitoring_key: k, qci: 1}, {id: c}]\n"
        "plans: [{name: p, static_rules: [a, b], dynamic_rules: [c]}]",
        "f.yml",
    )
    first, second = policy_file(simulation)["rules"]
    assert isinstance(first, dict)
    assert isinstance(second, dict)
    assert (first["id"], first["rating_group"], first["service_identifier"]) == ("a", 1, {"value": 2})
    assert (second["id"], second["tracking_type"], second["monitoring_key"]) == ("b", "ONLY_PCRF", "aw==")
    assert second["qos"]["qci"] == "QCI_1"


def test_an_empty_file_is_all_defaults() -> None:
    """Nothing must be said."""
    assert parse("", "f.yml") == Simulation()


def test_what_is_written_is_read_again() -> None:
    """The file for the process of pipelined says the same."""
    simulation = load(FILE)
    assert parse(config.dump(simulation), "f.yml") == simulation


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seed: x", "f.yml:1: seed: Expected `int`, got `str`"),
        ("\nsed: 1", "f.yml:2: sed: there is no such key"),
        ("plans:\n- name: a\n  quotas:\n  - grant: 5", "f.yml:4: plans[0].quotas[0].grant: there is no such key"),
        ("plans: [{}]", "f.yml:1: plans[0]: Object missing required field `name`"),
        ("sessiond: here", "f.yml:1: sessiond: Expected host:port"),
        ("subscribers: {first: '0010'}", "f.yml:1: subscribers.first: Expected IMSI and 5 to 15 digits"),
        ("a: [", "f.yml:1: not YAML: expected the node content, but found '<stream end>'"),
        ("[]", "f.yml:1: the file: Expected `object`, got `array`"),
        ("plans: [{name: a, static_rules: [b]}]", "f.yml: plans: a: there is no rule 'b'"),
        ("plans: [{name: a}, {name: a}]", "f.yml: plans: 'a' is there twice"),
        ("subscribers: {groups: [{plan: b, count: 1}]}", "f.yml: subscribers: there is no plan 'b'"),
        ("subscribers: {others: c}", "f.yml: subscribers: there is no plan 'c'"),
    ],
)
def test_a_mistake_is_named_with_its_place(text: str, said: str) -> None:
    """File, line, key and what is wrong."""
    with pytest.raises(ConfigError) as error:
        parse(text, "f.yml")
    assert str(error.value) == said


@pytest.mark.parametrize(
    ("quota", "said"),
    [
        ("", "a finite quota needs grant_bytes"),
        ("grant_bytes: 1, when_dry: {action: redirect}", "when_dry: redirect needs a url"),
        ("grant_bytes: 1, when_dry: {action: restrict}", "when_dry: restrict needs rules"),
    ],
)
def test_half_a_quota_is_refused(quota: str, said: str) -> None:
    """What a quota needs beside what it says is named with plan and rating group."""
    with pytest.raises(ConfigError) as error:
        parse(f"plans: [{{name: a, quotas: [{{rating_group: 1, {quota}}}]}}]", "f.yml")
    assert str(error.value) == f"f.yml: plans: a: rating group 1: {said}"


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """As is why it cannot be read."""
    with pytest.raises(ConfigError, match=r"none\.yml: cannot be read: No such file"):
        load(tmp_path / "none.yml")


def test_subscribers_are_scaled_in_proportion() -> None:
    """Any number of subscribers, spread over the plans as the file has them."""
    simulation = parse(
        "plans: [{name: a}, {name: b}]\nsubscribers: {groups: [{plan: a, count: 1}, {plan: b, count: 3}]}", "f"
    )
    assert [plan for _, plan in members(scaled(simulation, 8).subscribers)] == ["a"] * 2 + ["b"] * 6
    assert len(members(scaled(simulation, 5).subscribers)) == 5
    with pytest.raises(ConfigError):
        scaled(Simulation(), 5)


def test_a_subscriber_has_its_plan() -> None:
    """Those listed by their number, everyone else by `others`."""
    simulation = parse("plans: [{name: a}, {name: b}]\nsubscribers: {groups: [{plan: a, count: 2}], others: b}", "f")
    plans = [Plans(simulation).of(f"IMSI00101000000000{number}") for number in (1, 2, 3)]
    assert [plan.name for plan in plans if plan] == ["a", "a", "b"]
