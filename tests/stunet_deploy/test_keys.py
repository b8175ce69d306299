"""Key files: those of the program are those of OpenSSL, and whatever else is named is refused by what it is."""

from __future__ import annotations

import os
import stat
import subprocess

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from stunet_deploy.errors import ConfigError
from stunet_deploy.keys import is_signature, make_key, read_public_key, read_signing_key

OTHERS = {
    "RSA": rsa.generate_private_key(65537, 2048),
    "P-256": ec.generate_private_key(ec.SECP256R1()),
    "Ed448": ed448.Ed448PrivateKey.generate(),
    "X25519": x25519.X25519PrivateKey.generate(),
}
KEY = ed25519.Ed25519PrivateKey.generate()
PRIVATE = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
PUBLIC = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
FORMS = {
    "nothing": b"",
    "no PEM": b"\xff\x00\n" * 99,
    "two keys": (PRIVATE + PUBLIC) * 2,
    "cut": PRIVATE[:-40],
    "damaged": PRIVATE.replace(b"MC4", b"MC5"),
    "too large": b"-----BEGIN PRIVATE KEY-----\n" + b"A" * 100_000,
    "a certificate": PUBLIC.replace(b"PUBLIC KEY", b"CERTIFICATE"),
    "OpenSSH": KEY.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()),
    "OpenSSH, public": KEY.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH),
    "DER": KEY.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
    "RSA, traditional": OTHERS["RSA"].private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()),
    "encrypted and damaged": PRIVATE.replace(b"PRIVATE KEY", b"ENCRYPTED PRIVATE KEY"),
}
PRIVATE_OF_OTHERS = {
    name: key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) for name, key in OTHERS.items()
}
PUBLIC_OF_OTHERS = {
    name: key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo) for name, key in OTHERS.items()
}


@pytest.mark.parametrize("passphrase", [b"", b"a word", b"\xff\n", b"x" * 1023])
def test_a_key_that_was_made_signs_and_is_for_its_owner_alone(tmp_path, passphrase):
    old = os.umask(0)
    try:
        public = make_key(tmp_path / "key", passphrase)
    finally:
        os.umask(old)

    key = read_signing_key(tmp_path / "key", lambda: passphrase)

    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["key", "key.pub"]
    assert read_public_key(tmp_path / "key.pub") == public
    assert key.public == public.key
    assert is_signature(key.sign(b"text"), public.key, b"text")
    assert not is_signature(key.sign(b"text"), public.key, b"Text")
    if passphrase:
        with pytest.raises(ConfigError, match="wrong passphrase"):
            read_signing_key(tmp_path / "key", lambda: b"another")
        with pytest.raises(ConfigError, match="wrong passphrase"):
            read_signing_key(tmp_path / "key", lambda: b"")


@pytest.mark.needs_system_package("openssl")
@pytest.mark.parametrize("passphrase", ["", "word"])
def test_the_files_are_those_of_openssl(tmp_path, passphrase):
    def openssl(*arguments):
        return subprocess.run(["openssl", *arguments], cwd=tmp_path, check=True, capture_output=True).stdout

    make_key(tmp_path / "ours", passphrase.encode())
    words = ["-passin", f"pass:{passphrase}"] if passphrase else []
    assert openssl("pkey", "-in", "ours", "-pubout", *words) == (tmp_path / "ours.pub").read_bytes()

    words = ["-aes-256-cbc", "-pass", f"pass:{passphrase}"] if passphrase else []
    openssl("genpkey", "-algorithm", "ed25519", "-out", "theirs", *words)
    words = ["-passin", f"pass:{passphrase}"] if passphrase else []
    openssl("pkey", "-in", "theirs", "-pubout", "-out", "theirs.pub", *words)
    key = read_signing_key(tmp_path / "theirs", passphrase.encode)
    assert read_public_key(tmp_path / "theirs.pub").key == key.public


@pytest.mark.parametrize("taken", ["key", "key.pub"])
def test_no_key_is_replaced(tmp_path, taken):
    (tmp_path / taken).symlink_to("nowhere")
    with pytest.raises(ConfigError, match="no key is replaced"):
        make_key(tmp_path / "key", b"")
    assert [path.name for path in tmp_path.iterdir()] == [taken]


def test_a_passphrase_that_no_tool_would_take_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="1,024 bytes"):
        make_key(tmp_path / "key", b"x" * 1024)
    make_key(tmp_path / "key", b"x")
    with pytest.raises(ConfigError, match="1,024 bytes"):
        read_signing_key(tmp_path / "key", lambda: b"x" * 1024)


@pytest.mark.parametrize(
    "content", [*FORMS.values(), *PRIVATE_OF_OTHERS.values(), PUBLIC], ids=[*FORMS, *OTHERS, "public"]
)
def test_what_is_no_private_key_of_ed25519_is_refused(tmp_path, content):
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(ConfigError, match="key"):
        read_signing_key(tmp_path / "key", lambda: b"word")


@pytest.mark.parametrize(
    "content", [*FORMS.values(), *PUBLIC_OF_OTHERS.values(), PRIVATE], ids=[*FORMS, *OTHERS, "private"]
)
def test_what_is_no_public_key_of_ed25519_is_refused(tmp_path, content):
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(ConfigError, match="key"):
        read_public_key(tmp_path / "key")


@pytest.mark.parametrize("make", [lambda path: None, os.mkdir, os.mkfifo], ids=["nothing", "a folder", "a pipe"])
def test_what_is_no_file_is_refused(tmp_path, make):
    make(tmp_path / "key")
    with pytest.raises(ConfigError, match="key file"):
        read_public_key(tmp_path / "key")
    with pytest.raises(ConfigError, match="key file"):
        read_signing_key(tmp_path / "key", lambda: b"")


def test_bits_that_are_no_key_or_no_signature_are_no_signature():
    good = KEY.sign(b"text").hex()
    public = KEY.public_key().public_bytes_raw().hex()
    assert is_signature(good, public, b"text")
    for bit in range(8 * 64):
        other = bytearray.fromhex(good)
        other[bit // 8] ^= 1 << bit % 8
        assert not is_signature(other.hex(), public, b"text")
    for key in ("", "00", "ff" * 32, "00" * 32, public + "00"):
        assert not is_signature(good, key, b"text")
    for signature in ("", good[:-2], good + "00", "00" * 64):
        assert not is_signature(signature, public, b"text")
