"""``stunet sign``: sign a bundle, so that a device which trusts the key takes it; or make a key."""

from __future__ import annotations

import argparse
import getpass
import os
import stat
import sys
from pathlib import Path

from stunet_deploy.cli.console import Console
from stunet_deploy.cli.options import add_trust, open_bundle
from stunet_deploy.errors import BundleError, ConfigError

HELP = "Sign a bundle with an Ed25519 key; whoever has the public key checks it with --trust. Or make such a key."
EXAMPLE = "examples: stunet sign --new-key agency; stunet sign model.bundle --key agency"

#: Environment variable of the passphrase, for signing where nobody types.
PASSPHRASE = "STUNET_KEY_PASSPHRASE"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("bundle", type=Path, nargs="?", metavar="bundle/", help="folder that stunet-export wrote")
    parser.add_argument("--key", type=Path, metavar="FILE", help="private key to sign with")
    parser.add_argument(
        "--new-key",
        type=Path,
        metavar="FILE",
        help="make a private key, which its owner alone may read, and FILE.pub, the public one",
    )
    add_trust(parser)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Make a key, or sign."""
    if arguments.new_key is not None:
        if arguments.bundle is not None or arguments.key is not None or arguments.trust:
            raise ConfigError("--new-key with another option", "one or the other", "make the key first, then sign")
        return _make_key(arguments.new_key, console)
    if arguments.bundle is None or arguments.key is None:
        raise ConfigError(
            "a bundle without --key" if arguments.key is None else "--key without a bundle",
            "both, or --new-key",
            "stunet sign model.bundle --key FILE; make a key with: stunet sign --new-key FILE",
        )
    return _sign(arguments.bundle, arguments.key, arguments.trust, console)


def _make_key(path: Path, console: Console) -> int:
    from stunet_deploy.keys import make_key

    passphrase = _passphrase("passphrase (empty for none): ", again=True)
    public = make_key(path, passphrase)
    data = {"key": public.key, "private": str(path), "public": str(public.path), "encrypted": bool(passphrase)}
    console.answer(data, f"{path}: private key\n{public.path}: public key {public.key}")
    if not passphrase:
        console.say(f"note: {path} has no passphrase: whoever can read it can sign")
    console.next(f"stunet sign model.bundle --key {path}")
    return 0


def _sign(folder: Path, key_file: Path, trust: list[Path], console: Console) -> int:
    from runtime.backends.gpu.engines import check_engine, stored_engines
    from stunet_deploy.bundle_files import read_bundle_file
    from stunet_deploy.files import sha256
    from stunet_deploy.keys import read_signing_key
    from stunet_deploy.manifest import MANIFEST, Manifest
    from stunet_deploy.signature import SIGNATURE, sign

    bundle = open_bundle(folder, trust)
    bundle.check_files()
    manifest = read_bundle_file(folder / MANIFEST)
    if Manifest.from_json(manifest.decode()) != bundle.manifest:
        raise BundleError(f"{folder}, which changes while it is read", "one that stays", "copy it whole, then sign it")
    engines, unreadable = stored_engines(bundle)
    if unreadable:
        raise unreadable[0]
    hashes = {stored.path.name: sha256(check_engine(bundle, stored)) for stored in engines}
    key = read_signing_key(key_file, lambda: _passphrase(f"passphrase of {key_file}: "))
    if os.name == "posix" and key_file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        console.say(f"note: others than its owner may use {key_file}; chmod 600 {key_file}")
    signatures = sign(folder, manifest, hashes, key)
    files = sorted(signatures[-1].files)
    data = {"bundle_id": bundle.manifest.bundle_id, "key": key.public, "files": files, "signatures": len(signatures)}
    covered = f", {len(hashes)} engine{'s' * (len(hashes) > 1)} included" if hashes else ""
    console.answer(data, f"{folder / SIGNATURE}: identity {bundle.manifest.bundle_id[:12]} signed by {key}{covered}")
    console.next(f"stunet verify {folder} --trust {key_file}.pub")
    return 0


def _passphrase(prompt: str, *, again: bool = False) -> bytes:
    """Return the passphrase of the environment, or what is typed; of a new key none where there is neither.

    Raises:
        ConfigError: if there is none, or of a new key not the same twice.
    """
    word = os.environ.get(PASSPHRASE)
    try:
        if word is None and sys.stdin.isatty():
            word = getpass.getpass(prompt, stream=sys.stderr)
            if again and word and getpass.getpass("once more: ", stream=sys.stderr) != word:
                raise ConfigError("two passphrases", "the same twice", "try again")
    except EOFError as error:
        raise ConfigError("no passphrase", "one, or an empty line for none", "try again") from error
    if word is None and not again:
        raise ConfigError("a key with a passphrase, and nobody to type it", f"it in {PASSPHRASE}", f"set {PASSPHRASE}")
    return os.fsencode(word or "")
