"""What several of these tests need."""

import shutil
import subprocess
from pathlib import Path

import pytest


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Return a file with a new certificate for localhost, signed by itself, and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl here to make a certificate with")
    key, signed, both = (tmp_path / name for name in ("key.pem", "signed.pem", "localhost.pem"))
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    made = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-keyout", str(key), "-out", str(signed)]
    subprocess.run([openssl, "req", "-x509", "-nodes", "-days", "2", *names, *made], check=True, capture_output=True)
    both.write_bytes(key.read_bytes() + signed.read_bytes())
    return both
