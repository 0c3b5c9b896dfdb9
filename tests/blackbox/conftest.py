"""What several of these tests need."""

from pathlib import Path

import pytest

from tests.certificate import make_certificate


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Return a file with a new certificate for localhost, signed by itself, and its key."""
    return make_certificate(tmp_path)
