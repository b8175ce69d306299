"""Signatures of a bundle, in ``signature.json`` beside its manifest: who vouches for these files.

A signature says of a list of files: these have these hashes. The list names the manifest, which has the hashes of all
files that an export writes, and the engines that were there when it was signed. Each key has one signature, with a list
of its own. What is signed begins with a line that nothing else signed by the same key begins with.

The file has one form: text that says the same in other bytes is refused, and so is a signature that does not fit, even
that of a key which nobody trusts. Therefore no bit of it can be changed unnoticed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from stunet_deploy.bundle_files import ENGINES, engines_of, read_bundle_file
from stunet_deploy.config_mapping import from_mapping
from stunet_deploy.errors import BundleError, ConfigError, StunetError, shown
from stunet_deploy.files import replacing, sha256
from stunet_deploy.keys import PublicKey, SigningKey, is_signature, read_public_key, short
from stunet_deploy.manifest import MANIFEST

SIGNATURE = "signature.json"
SCHEMA = 1
#: Bytes of the file: a signature has some hundred, and each engine in its list as many.
LONGEST_SIGNATURES = 1 << 20
_CONTEXT = b"stunet-deploy: signature of a bundle, version 1\n"
_ENGINE = re.compile(rf"{ENGINES}/[A-Za-z0-9][A-Za-z0-9_.+-]*")
_AGAIN = "delete it, and sign the bundle again: stunet sign {} --key FILE"


@dataclass(frozen=True)
class Signature:
    """What one key says.

    Attributes:
        files: sha256 of each file by its path in the bundle: the manifest, and the engines that were there.
        key: the public key.
        signature: what it signed is a line that says what for, and ``files``.
    """

    files: Mapping[str, str]
    key: str
    signature: str

    def __post_init__(self) -> None:
        digits = {"key": (64, self.key), "signature": (128, self.signature)}
        digits |= {f"hash of {shown(name)}": (64, found) for name, found in self.files.items()}
        for what, (length, found) in digits.items():
            if not re.fullmatch(rf"[0-9a-f]{{{length}}}", found):
                raise ConfigError(f"a {what} that is none", f"{length} hexadecimal digits", "sign again")
        if MANIFEST not in self.files or not all(_ENGINE.fullmatch(name) for name in self.files.keys() - {MANIFEST}):
            raise ConfigError("other files", f"{MANIFEST}, and files in {ENGINES}/", "sign again")

    @classmethod
    def make(cls, key: SigningKey, files: Mapping[str, str]) -> Signature:
        """Sign a list of files."""
        return cls(files, key.public, key.sign(_statement(files)))

    def problem(self, manifest: bytes) -> str:
        """Return why this is no signature of a bundle with this manifest; nothing if it is one.

        Raises:
            StunetError: if ``cryptography`` is not installed.
        """
        if not is_signature(self.signature, self.key, _statement(self.files)):
            return f"{SIGNATURE} was altered: the signature of {short(self.key)} does not fit"
        if self.files[MANIFEST] != sha256(manifest):
            return f"{MANIFEST} is not the one that {short(self.key)} has signed"
        return ""


@dataclass(frozen=True)
class Signatures:
    """The content of ``signature.json``."""

    signatures: tuple[Signature, ...]
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise ConfigError(f"schema {self.schema}", f"schema {SCHEMA}", "use the version that wrote it")
        if not self.signatures or len({entry.key for entry in self.signatures}) < len(self.signatures):
            raise ConfigError("no signature, or two of one key", "one of each key", "sign again")

    def to_json(self) -> str:
        """Return the file's text."""
        return json.dumps(asdict(self), indent=1, sort_keys=True) + "\n"

    @classmethod
    def read(cls, folder: Path) -> Signatures:
        """Read the signatures of a bundle.

        Raises:
            BundleError: if there are none, or the file is not byte for byte as it is written.
        """
        path = folder / SIGNATURE
        try:
            data = read_bundle_file(path)
            if len(data) > LONGEST_SIGNATURES:
                raise ValueError(f"larger than {LONGEST_SIGNATURES >> 20} MB")
            found = from_mapping(cls, json.loads(data))
            if found.to_json().encode() != data:
                raise ValueError("the same could be written in fewer or other bytes")
        except FileNotFoundError as error:
            raise BundleError(
                f"{folder} is not signed",
                f"a {SIGNATURE} in it",
                "take a signed one, or sign it where it was exported: stunet sign",
            ) from error
        except (OSError, ValueError, RecursionError, StunetError) as error:
            reason = error.came if isinstance(error, StunetError) else error
            raise BundleError(
                f"{path} is damaged ({reason})", "the file that 'stunet sign' writes", _AGAIN.format(folder)
            ) from error
        return found


@dataclass(frozen=True)
class Signed:
    """Trusted signatures that were checked and fit.

    Attributes:
        by: the keys, with the files that they were read from.
        signatures: one of each.
    """

    by: tuple[PublicKey, ...]
    signatures: tuple[Signature, ...]

    def __str__(self) -> str:
        return f"by {', '.join(map(str, self.by))}"

    def names(self, engine: str, digest: str) -> bool:
        """Return whether one of them names an engine with this hash."""
        return any(entry.files.get(f"{ENGINES}/{engine}") == digest for entry in self.signatures)

    def check_engines(self, folder: Path) -> list[str]:
        """Compare the engines that are there with the signatures; return those that none of them names.

        Raises:
            BundleError: if one is named, but is another.
        """
        unsigned = unsigned_engines(folder, self.signatures)
        for name in unsigned:
            if any(f"{ENGINES}/{name}" in entry.files for entry in self.signatures):
                raise BundleError(
                    f"{folder / ENGINES / name} was altered after it was signed",
                    "the engine that was there then",
                    f"copy it again; if it was built anew, sign again: stunet sign {folder} --key FILE",
                )
        return unsigned


@dataclass(frozen=True)
class Trust:
    """The keys of which one must have signed a bundle."""

    keys: tuple[PublicKey, ...]

    @classmethod
    def read(cls, paths: Sequence[Path]) -> Trust:
        """Read public keys.

        Raises:
            ConfigError: if there is none, or one cannot be read or is of another kind.
            StunetError: if ``cryptography`` is not installed.
        """
        if not paths:
            raise ConfigError("no key that is trusted", "one or more public keys", "name a .pub")
        return cls(tuple(read_public_key(path) for path in paths))

    def check(self, folder: Path, manifest: bytes) -> Signed:
        """Return the signatures of these keys, all of which fit.

        Args:
            folder: of the bundle.
            manifest: the bytes that the manifest is then parsed from.

        Raises:
            BundleError: if the bundle is not signed, by none of these keys, or was altered since.
            StunetError: if ``cryptography`` is not installed.
        """
        found = Signatures.read(folder).signatures
        for entry in found:
            problem = entry.problem(manifest)
            if problem:
                raise BundleError(
                    f"{folder}: {problem}",
                    "a bundle as it was signed",
                    "copy the bundle again, or sign it again where it was exported",
                )
        signed = {entry.key for entry in found}
        by = tuple({key.key: key for key in self.keys if key.key in signed}.values())
        if not by:
            raise BundleError(
                f"{folder}, signed by {', '.join(short(entry.key) for entry in found)}",
                f"a signature of {' or '.join(map(str, self.keys))}",
                "take a bundle from whom you trust, or add the signer's public key",
            )
        trusted = {key.key for key in by}
        return Signed(by, tuple(entry for entry in found if entry.key in trusted))


def signatures_of(folder: Path) -> tuple[Signature, ...]:
    """Return the signatures of a bundle as they stand there, unchecked; none if it is not signed.

    Raises:
        BundleError: if the file is damaged.
    """
    return Signatures.read(folder).signatures if (folder / SIGNATURE).exists() else ()


def sign(folder: Path, manifest: bytes, engines: Mapping[str, str], key: SigningKey) -> tuple[Signature, ...]:
    """Sign a bundle and write the signature beside those of other keys, in place of an earlier one of this key.

    Args:
        folder: of the bundle.
        manifest: bytes of its manifest.
        engines: sha256 of each engine by the name of its file.
        key: signs.

    Returns:
        All signatures of the bundle, the new one last.

    Raises:
        BundleError: if the signatures that are there are damaged or do not fit this manifest.
        StunetError: if the file cannot be written.
    """
    others = tuple(entry for entry in signatures_of(folder) if entry.key != key.public)
    for entry in others:
        problem = entry.problem(manifest)
        if problem:
            raise BundleError(f"{folder}: {problem}", "signatures of this bundle", _AGAIN.format(folder))
    files = {MANIFEST: sha256(manifest)} | {f"{ENGINES}/{name}": digest for name, digest in engines.items()}
    signatures = Signatures((*others, Signature.make(key, files)))
    with replacing(folder / SIGNATURE) as temporary:
        temporary.write_text(signatures.to_json(), encoding="utf-8")
    return signatures.signatures


def unsigned_engines(folder: Path, signatures: Sequence[Signature]) -> list[str]:
    """Return the engines in a bundle that none of these signatures names as they are."""
    signed = {(name, digest) for entry in signatures for name, digest in entry.files.items()}
    plans = sorted(engines_of(folder).glob("*.engine"))
    return [plan.name for plan in plans if (f"{ENGINES}/{plan.name}", sha256(read_bundle_file(plan))) not in signed]


def _statement(files: Mapping[str, str]) -> bytes:
    """Return the bytes that are signed."""
    return _CONTEXT + json.dumps(dict(files), sort_keys=True, separators=(",", ":")).encode()
