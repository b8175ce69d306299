"""Ed25519 keys in PEM files: a private one signs bundles (PKCS #8), its public one is trusted (SubjectPublicKeyInfo).

These are the files of ``openssl genpkey -algorithm ed25519`` and ``openssl pkey -pubout``. A public key is 32 bytes, so
that it needs no fingerprint: messages and signatures name it by its 64 hexadecimal digits. ``cryptography`` is
imported where a key is made, read or used, and nowhere else: a controller that trusts no key does not need it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from stunet_deploy.errors import ConfigError, StunetError
from stunet_deploy.files import read_file, replacing

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

#: Bytes of a key file; one of RSA, which is refused by its name, has some thousand.
LONGEST_KEY = 1 << 16
#: Bytes of a passphrase that OpenSSL takes.
LONGEST_PASSPHRASE = 1023
_ENCRYPTED = "ENCRYPTED PRIVATE KEY"
_LABELS = {"private": ("PRIVATE KEY", _ENCRYPTED), "public": ("PUBLIC KEY",)}


@dataclass(frozen=True)
class PublicKey:
    """A public key and the file that it was read from.

    Attributes:
        path: of the file.
        key: 64 hexadecimal digits.
    """

    path: Path
    key: str

    def __str__(self) -> str:
        return f"{self.path.name} ({short(self.key)})"

    def to_json(self) -> dict[str, str]:
        """Return it as the commands that check a signature name it."""
        return {"key": self.key, "file": str(self.path)}


@dataclass(frozen=True)
class SigningKey:
    """A private key."""

    _private: Ed25519PrivateKey

    @property
    def public(self) -> str:
        """Its public key, 64 hexadecimal digits."""
        return self._private.public_key().public_bytes_raw().hex()

    def __str__(self) -> str:
        return short(self.public)

    def sign(self, data: bytes) -> str:
        """Return the signature of ``data``, 128 hexadecimal digits."""
        return self._private.sign(data).hex()


def short(key: str) -> str:
    """Return a public key as a line for people names it."""
    return f"key {key[:16]}"


def is_signature(signature: str, key: str, data: bytes) -> bool:
    """Return whether a signature of ``data`` was made with a key; both are hexadecimal.

    Raises:
        StunetError: if ``cryptography`` is not installed.
    """
    _need_cryptography()
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)).verify(bytes.fromhex(signature), data)
    except (InvalidSignature, ValueError):  # ValueError: 32 bytes that are no key
        return False
    return True


def make_key(path: Path, passphrase: bytes) -> PublicKey:
    """Write a new private key that its owner alone may read, and its public key to a file with ``.pub`` at the end.

    Args:
        path: of the private key.
        passphrase: encrypts it; empty for none.

    Returns:
        The public key.

    Raises:
        ConfigError: if one of the files is there, which is never replaced, or the passphrase is too long.
        StunetError: if a file cannot be written, or ``cryptography`` is not installed.
    """
    _need_cryptography()
    from cryptography.hazmat.primitives import serialization as forms
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    public = path.with_name(f"{path.name}.pub")
    for file in (path, public):
        if os.path.lexists(file):
            raise ConfigError(f"{file}, which is there", "a name that is free: no key is replaced", "choose another")
    _check_passphrase(passphrase)
    private = Ed25519PrivateKey.generate()
    locked = forms.BestAvailableEncryption(passphrase) if passphrase else forms.NoEncryption()
    secret = private.private_bytes(forms.Encoding.PEM, forms.PrivateFormat.PKCS8, locked)
    shown = private.public_key().public_bytes(forms.Encoding.PEM, forms.PublicFormat.SubjectPublicKeyInfo)
    with replacing(path) as private_part, replacing(public) as public_part:
        with open(os.open(private_part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as private_file:
            private_file.write(secret)
        public_part.write_bytes(shown)
    return PublicKey(public, SigningKey(private).public)


def read_signing_key(path: Path, passphrase: Callable[[], bytes]) -> SigningKey:
    """Read a private key.

    Args:
        path: of its file.
        passphrase: asked for the passphrase if the key is encrypted.

    Raises:
        ConfigError: if it cannot be read, is none, is of another kind, or the passphrase is wrong.
        StunetError: if ``cryptography`` is not installed.
    """
    _need_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    data, label = _read_pem(path, "private")
    word = passphrase() if label == _ENCRYPTED else None
    if word is not None:
        _check_passphrase(word)
    try:
        key = load_pem_private_key(data, word)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        if word is None:
            raise _damaged(path, "private") from error
        raise ConfigError(
            f"{path} with a wrong passphrase, or damaged", "the passphrase it was made with", "try again"
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise _of_another_kind(path, "private", type(key).__name__)
    return SigningKey(key)


def read_public_key(path: Path) -> PublicKey:
    """Read a public key.

    Raises:
        ConfigError: if it cannot be read, is none, or is of another kind.
        StunetError: if ``cryptography`` is not installed.
    """
    _need_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    data, _ = _read_pem(path, "public")
    try:
        key = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _damaged(path, "public") from error
    if not isinstance(key, Ed25519PublicKey):
        raise _of_another_kind(path, "public", type(key).__name__)
    return PublicKey(path, key.public_bytes_raw().hex())


def _need_cryptography() -> None:
    """Refuse to go on without the package, which may also be there for another system."""
    try:
        import cryptography.hazmat.primitives.asymmetric.ed25519  # noqa: F401
    except ImportError as error:
        raise StunetError(
            f"cryptography cannot be imported ({error})",
            "the package that makes and checks signatures",
            "pip install 'stunet-deploy[sign]'",
        ) from error


def _read_pem(path: Path, kind: Literal["private", "public"]) -> tuple[bytes, str]:
    """Return the content of a key file and the label of the one key in it.

    Raises:
        ConfigError: naming what is there instead.
    """
    try:
        data = read_file(path, LONGEST_KEY)
    except OSError as error:
        raise ConfigError(
            f"key file {path} ({error.strerror or error})", f"a {kind} key", "correct the path, or the file's rights"
        ) from error
    labels = [label.decode() for label in re.findall(rb"^-----BEGIN ([A-Z0-9 ]+)-----\s*$", data, re.MULTILINE)]
    if len(labels) != 1:
        raise _of_another_kind(path, kind, f"{len(labels)} keys in PEM")
    if labels[0] not in _LABELS[kind]:
        raise _of_another_kind(path, kind, labels[0])
    return data, labels[0]


def _check_passphrase(word: bytes) -> None:
    if len(word) > LONGEST_PASSPHRASE:
        raise ConfigError(
            f"a passphrase of {len(word):,} bytes", f"at most {LONGEST_PASSPHRASE:,}", "choose a shorter one"
        )


def _of_another_kind(path: Path, kind: Literal["private", "public"], found: str) -> ConfigError:
    action = {
        "private": "name the private key of 'stunet sign --new-key', not its .pub",
        "public": "name the .pub beside the private key of 'stunet sign --new-key'",
    }
    return ConfigError(f"key file {path} with {found}", f"a {kind} key of Ed25519 in PEM", action[kind])


def _damaged(path: Path, kind: Literal["private", "public"]) -> ConfigError:
    return ConfigError(f"key file {path}, which is damaged", f"a {kind} key of Ed25519 in PEM", "copy the file again")
