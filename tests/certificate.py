"""A certificate for localhost, made when a test needs one."""

import shutil
import subprocess
from pathlib import Path

import pytest


def make_certificate(folder: Path, names: str = "DNS:localhost,IP:127.0.0.1", common_name: str = "localhost") -> Path:
    """Return a file with a new certificate, signed by itself, and its key; skip the test if it cannot be made."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl here to make a certificate with")
    key, signed, both = (folder / f"{name}{common_name}.pem" for name in ("key-", "signed-", ""))
    who = ["-subj", f"/CN={common_name}", "-addext", f"subjectAltName={names}"]
    made = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-keyout", str(key), "-out", str(signed)]
    subprocess.run([openssl, "req", "-x509", "-nodes", "-days", "2", *who, *made], check=True, capture_output=True)
    both.write_bytes(key.read_bytes() + signed.read_bytes())
    return both
