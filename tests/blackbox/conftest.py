"""What several of these tests need."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.certificate import make_certificate
from tests.store.servers import Server, binary_of


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Return a file with a new certificate for localhost, signed by itself, and its key."""
    return make_certificate(tmp_path)


@pytest.fixture(scope="module")
def one_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Give a Valkey that the tests of a module share, which starts empty."""
    server = Server(binary_of("valkey"), tmp_path_factory.mktemp("valkey"))
    yield server.start()
    server.stop()
