"""No file and no function grows beyond what a person reads in one go."""

from tests.house.tree import functions, name_of, sources

LINES_OF_A_FILE = 500
LINES_OF_A_FUNCTION = 70

# What is longer, and why it reads better in one piece: "path" or "path:function".
LONGER: dict[str, str] = {}


def test_no_file_is_too_long() -> None:
    """A module has one subject; one that outgrows the limit has two."""
    lengths = {name_of(path): path.read_text(encoding="utf-8").count("\n") for path in sources()}
    long = {f"{name}: {length} lines" for name, length in lengths.items() if length > LINES_OF_A_FILE}
    assert {entry for entry in long if entry.partition(": ")[0] not in LONGER} == set()


def test_no_function_is_too_long() -> None:
    """A function does one thing; one that outgrows the limit does several."""
    long = {
        f"{name_of(path)}:{function.name}": length
        for path in sources()
        for function in functions(path)
        if (length := (function.end_lineno or 0) - function.lineno + 1) > LINES_OF_A_FUNCTION
    }
    assert {name: length for name, length in long.items() if name not in LONGER} == {}


def test_exceptions_are_still_there() -> None:
    """An exception for what is gone is taken off the list."""
    present = {name_of(path) for path in sources()}
    assert {name.partition(":")[0] for name in LONGER} <= present
