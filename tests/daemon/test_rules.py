"""The file of static rules: what is wrong with it is said with file, line and key."""

from pathlib import Path

import pytest

from sessiond.daemon.config import ConfigError
from sessiond.daemon.rules import RulesFile

FILE_OF_RULES = """{
  "rules": [
    {"id": "one", "rating_group": 1},
    {
      "id": "two",
\t  "priority": "high",
      "colour": "red"
    },
    {"id": "one"},
    {"rating_group": 1}
  ]
}
"""
DEEP = "[" * 100_000 + "]" * 100_000
UNREADABLE = {
    "cut off": b'{"rules": [',
    "no UTF-8": b'{"rules": [{"id": "\xff"}]}',
    "no list": b'{"rules": {}}',
    "another key": b'{"rules": [], "comment": "all of them"}',
    "no object": b'{"rules": [5]}',
    "no id": b'{"rules": [{}]}',
    "an id that is no text": b'{"rules": [{"id": 5}]}',
    "half a character": b'{"rules": [{"id": "\\ud800"}]}',
    "too large a number": b'{"rules": [{"id": "web", "priority": 1e400}]}',
    "a list for a text": b'{"rules": [{"id": "web", "flow_list": ' + b"[" * 900 + b"]" * 900 + b"}]}",
    "too deep": f'{{"rules": {DEEP}}}'.encode(),
    "too deep beside the rules": f'{{"a": {"[" * 900}{"]" * 900}, "rules": [{{}}]}}'.encode(),
    "nothing": b"",
}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return a configuration that names a file of rules in its third line."""
    file = tmp_path / "sessiond.yml"
    file.write_text("# rules\npolicies:\n  file: rules.json\n", encoding="utf-8")
    return file


def problems(config: Path, content: bytes) -> list[str]:
    """Return what is wrong with a file of rules, without the folder it is in."""
    file = config.parent / "rules.json"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        RulesFile(str(file), config).read()
    return [str(problem).removeprefix(f"{config.parent}/") for problem in caught.value.problems]


def test_each_problem_has_its_line_and_key(config: Path) -> None:
    """All mistakes are told at once, each with its place, also where JSON is indented by tabs."""
    assert problems(config, FILE_OF_RULES.encode()) == [
        "rules.json:6: rules[1] (two): priority: invalid literal for int() with base 10: 'high'.",
        "rules.json:7: rules[1] (two): colour: no such key",
        "rules.json:9: rules[2] (one): id: an earlier rule has the same",
        "rules.json:10: rules[3]: id: missing, or not a text",
    ]


def test_place_in_a_file_that_is_no_json(config: Path) -> None:
    """The line is that where the parser gave up."""
    (problem,) = problems(config, b'{\n"rules": [\n  {"id": "one",}\n]}')
    assert problem.startswith("rules.json:3: not JSON: ")


def test_place_of_what_is_no_text(config: Path) -> None:
    """The line is that of the first octet that is not UTF-8."""
    assert problems(config, b'{"rules": [\n\n{"id": "\xff"}]}') == ["rules.json:3: not UTF-8 text"]


@pytest.mark.parametrize("content", UNREADABLE.values(), ids=UNREADABLE)
def test_whatever_is_in_it_is_refused_with_a_line(config: Path, content: bytes) -> None:
    """No content makes reading fail in another way than by saying what is wrong, and where."""
    assert all(problem.startswith("rules.json:1: ") for problem in problems(config, content))


@pytest.mark.parametrize("kind", ["missing", "folder"])
def test_a_file_that_cannot_be_read_is_a_problem_of_the_configuration(config: Path, kind: str) -> None:
    """The line and the key are those that name the file."""
    file = config.parent / "rules.json"
    if kind == "folder":
        file.mkdir()
    with pytest.raises(ConfigError) as caught:
        RulesFile(str(file), config).read()
    reason = {"missing": "No such file or directory", "folder": "Is a directory"}[kind]
    assert str(caught.value) == f"{config}:3: policies.file: {file} cannot be read: {reason}"


def test_no_file_has_no_rules(config: Path) -> None:
    """A daemon without a file of rules has none."""
    assert RulesFile(None, config).read() == {}
