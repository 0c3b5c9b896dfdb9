"""What says of itself what it is."""

import ast

from tests.house.tree import PACKAGE, functions, name_of, parsed, sources, written_tests


def test_every_package_says_what_lives_in_it() -> None:
    """A package has an __init__.py with a docstring; a reader finds the way without opening every file."""
    packages = {path.parent for path in sources()} | {PACKAGE}
    silent = {name_of(folder) for folder in packages if not (folder / "__init__.py").is_file()}
    silent |= {
        name_of(path) for path in sources() if path.name == "__init__.py" and not ast.get_docstring(parsed(path))
    }
    assert silent == set()


def test_a_package_says_it_in_one_sentence() -> None:
    """The docstring of a package is one paragraph that ends with a full stop."""
    texts = {name_of(path): ast.get_docstring(parsed(path)) or "" for path in sources() if path.name == "__init__.py"}
    assert {name for name, text in texts.items() if "\n\n" in text or not text.endswith(".")} == set()


def test_every_test_says_what_it_shows() -> None:
    """The docstring of a test is the behaviour in one sentence."""
    silent = {
        f"{name_of(path)}:{function.lineno} {function.name}"
        for path in written_tests()
        for function in functions(path)
        if function.name.startswith("test_") and not ast.get_docstring(function)
    }
    assert silent == set()
