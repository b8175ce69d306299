"""Signatures: what is signed is said, and no bit of the file, of the manifest or of an engine changes unnoticed."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from stunet_deploy.bundle_files import ENGINES
from stunet_deploy.errors import BundleError, ConfigError
from stunet_deploy.files import sha256
from stunet_deploy.keys import PublicKey, SigningKey
from stunet_deploy.manifest import MANIFEST
from stunet_deploy.signature import SIGNATURE, Trust, sign, signatures_of, unsigned_engines
from tests.paths import ROOT

CONTENT = b'{"what": "ever"}'
ENGINE = "tensorrt_10.3.0_sm87_linux_aarch64_fp32_batch1-1-64.engine"
CONTEXT = "stunet-deploy: signature of a bundle, version 1\n"
AGENCY, SITE, FOREIGN = (SigningKey(Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)) for seed in (1, 2, 3))


def trust(*keys: SigningKey) -> Trust:
    return Trust(tuple(PublicKey(Path(f"{key.public[:4]}.pub"), key.public) for key in keys))


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / MANIFEST).write_bytes(CONTENT)
    (tmp_path / ENGINES).mkdir()
    (tmp_path / ENGINES / ENGINE).write_bytes(b"a plan")
    return tmp_path


def sign_by(folder: Path, *keys: SigningKey) -> str:
    """Sign with each key, the engine too, and return the file's text."""
    for key in keys:
        sign(folder, CONTENT, {ENGINE: sha256(b"a plan")}, key)
    return (folder / SIGNATURE).read_text()


def written(key: SigningKey, files: dict[str, str], context: str = CONTEXT) -> str:
    """Return a file as anybody with a key could write it: the signature fits, whatever it is of."""
    text = json.dumps(files, sort_keys=True, separators=(",", ":"))
    entry = {"files": files, "key": key.public, "signature": key.sign((context + text).encode())}
    return json.dumps({"schema": 1, "signatures": [entry]}, indent=1, sort_keys=True) + "\n"


def test_one_trusted_signature_is_enough_and_the_signers_are_named(folder):
    sign_by(folder, AGENCY, SITE)

    assert str(trust(AGENCY).check(folder, CONTENT)) == f"by 8a88.pub (key {AGENCY.public[:16]})"
    assert [key.key for key in trust(FOREIGN, SITE).check(folder, CONTENT).by] == [SITE.public]
    assert [key.key for key in trust(SITE, AGENCY, SITE).check(folder, CONTENT).by] == [SITE.public, AGENCY.public]


def test_unsigned_and_foreign_are_refused(folder):
    with pytest.raises(BundleError, match="is not signed"):
        trust(AGENCY).check(folder, CONTENT)
    sign_by(folder, FOREIGN, SITE)
    with pytest.raises(BundleError, match=f"signed by key {FOREIGN.public[:16]}, key {SITE.public[:16]}"):
        trust(AGENCY).check(folder, CONTENT)
    with pytest.raises(ConfigError, match="no key that is trusted"):
        Trust.read([])


def test_every_bit_of_the_manifest_counts(folder):
    sign_by(folder, AGENCY)
    for bit in range(8 * len(CONTENT)):
        altered = bytearray(CONTENT)
        altered[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BundleError, match=r"manifest\.json is not the one"):
            trust(AGENCY).check(folder, bytes(altered))


def test_no_bit_of_the_file_may_change_whoever_is_trusted(folder):
    whole = sign_by(folder, AGENCY, SITE).encode()
    for bit in random.Random(1).sample(range(8 * len(whole)), 2000):
        altered = bytearray(whole)
        altered[bit // 8] ^= 1 << bit % 8
        (folder / SIGNATURE).write_bytes(altered)
        with pytest.raises(BundleError):
            trust(AGENCY).check(folder, CONTENT)


def test_no_bytes_may_be_missing_or_too_many(folder):
    whole = sign_by(folder, AGENCY).encode()
    rng = random.Random(1)
    wrong = [whole[:length] for length in range(len(whole))]
    for _ in range(500):
        begin, end = sorted(rng.randrange(len(whole) + 1) for _ in range(2))
        wrong.append(whole[:begin] + rng.randbytes(rng.randrange(9)) + whole[end:])
    for text in wrong:
        (folder / SIGNATURE).write_bytes(text)
        if text != whole:
            with pytest.raises(BundleError):
                trust(AGENCY).check(folder, CONTENT)


ALTERED = {
    "a key of JSON twice": lambda text: text.replace('"schema": 1', '"schema": 2,\n "schema": 1'),
    "files twice, the second empty": lambda text: text.replace('"key":', '"files": {},\n   "key":'),
    "other white space": lambda text: text.replace("\n", "\r\n"),
    "a byte order mark": lambda text: "\ufeff" + text,
    "no line end": str.rstrip,
    "a further key": lambda text: text.replace('"schema": 1', '"note": "", "schema": 1'),
    "escaped letters": lambda text: text.replace("schema", "s\\u0063hema"),
    "another schema": lambda text: text.replace('"schema": 1', '"schema": 2'),
    "a schema of another type": lambda text: text.replace('"schema": 1', '"schema": true'),
    "capital digits": lambda text: text.replace(AGENCY.public, AGENCY.public.upper()),
    "a shorter key": lambda text: text.replace(AGENCY.public, AGENCY.public[:-2]),
    "another's key": lambda text: text.replace(AGENCY.public, FOREIGN.public),
    "no signature": lambda text: '{\n "schema": 1,\n "signatures": []\n}\n',
    "a list": lambda text: "[]\n",
    "null": lambda text: "null\n",
    "not a number": lambda text: text.replace('"schema": 1', '"schema": NaN'),
    "a number of many digits": lambda text: text.replace('"schema": 1', f'"schema": {"9" * 10_000}'),
    "half a pair": lambda text: text.replace(ENGINE, "\\ud800.engine"),
    "brackets in brackets": lambda text: "[" * 200_000,
    "more than a megabyte": lambda text: text + " " * (1 << 20),
    "two of one key": lambda text: text.replace(
        "[\n", f"[\n{text[text.index('  {') : text.index(chr(10) + ' ]')]},\n", 1
    ),
}


@pytest.mark.parametrize("alter", ALTERED.values(), ids=ALTERED)
def test_the_file_has_one_form(folder, alter):
    text = sign_by(folder, AGENCY)
    (folder / SIGNATURE).write_text(alter(text), encoding="utf-8", newline="")
    with pytest.raises(BundleError, match=r"signature\.json is damaged|was altered"):
        trust(AGENCY).check(folder, CONTENT)


def test_what_is_signed_is_a_line_and_the_list_of_files(folder):
    (folder / SIGNATURE).write_text(written(AGENCY, {MANIFEST: sha256(CONTENT)}))
    assert trust(AGENCY).check(folder, CONTENT).by[0].key == AGENCY.public


@pytest.mark.parametrize("context", ["", CONTEXT.replace("1", "2"), CONTEXT.replace("bundle", "model"), CONTEXT[:-1]])
def test_a_signature_of_something_else_is_none_of_a_bundle(folder, context):
    (folder / SIGNATURE).write_text(written(AGENCY, {MANIFEST: sha256(CONTENT)}, context))
    with pytest.raises(BundleError, match="does not fit"):
        trust(AGENCY).check(folder, CONTENT)


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"step.onnx": "0" * 64},
        {MANIFEST: ""},
        {MANIFEST: "0" * 63 + "g"},
        *(
            {MANIFEST: sha256(CONTENT), name: "0" * 64}
            for name in (
                "/etc/passwd",
                "../x",
                "engines/../../x",
                "engines/.x",
                "engines/a/b",
                "engines/",
                "engines/a\n",
            )
        ),
    ],
)
def test_a_list_of_other_files_is_refused_whoever_signs_it(folder, files):
    (folder / SIGNATURE).write_text(written(AGENCY, files))
    with pytest.raises(BundleError, match="is damaged"):
        trust(AGENCY).check(folder, CONTENT)


def test_each_key_has_one_signature(folder):
    sign_by(folder, AGENCY, SITE, AGENCY)
    assert [entry.key for entry in signatures_of(folder)] == [SITE.public, AGENCY.public]
    sign(folder, CONTENT, {}, AGENCY)
    assert [len(entry.files) for entry in signatures_of(folder)] == [2, 1]


def test_signatures_of_another_manifest_are_not_kept(folder):
    sign_by(folder, SITE)
    with pytest.raises(BundleError, match=r"manifest\.json is not the one.*delete it"):
        sign(folder, b"another", {}, AGENCY)
    (folder / SIGNATURE).write_text("{}")
    with pytest.raises(BundleError, match=r"is damaged.*delete it"):
        sign(folder, CONTENT, {}, AGENCY)
    (folder / SIGNATURE).unlink()
    sign_by(folder, AGENCY)
    sign(folder, b"another", {}, AGENCY)  # its own is replaced
    trust(AGENCY).check(folder, b"another")


def test_an_engine_counts_as_one_that_trusted_keys_have_named(folder):
    sign(folder, CONTENT, {}, AGENCY)
    sign(folder, CONTENT, {ENGINE: sha256(b"a plan")}, SITE)
    by_agency, by_site = trust(AGENCY).check(folder, CONTENT), trust(SITE).check(folder, CONTENT)

    assert unsigned_engines(folder, signatures_of(folder)) == []
    assert (by_agency.check_engines(folder), by_site.check_engines(folder)) == ([ENGINE], [])
    assert by_site.names(ENGINE, sha256(b"a plan"))
    assert not by_agency.names(ENGINE, sha256(b"a plan"))
    assert not by_site.names(f"x{ENGINE}", sha256(b"a plan"))

    (folder / ENGINES / ENGINE).write_bytes(b"A plan")
    assert not by_site.names(ENGINE, sha256(b"A plan"))
    with pytest.raises(BundleError, match="altered after it was signed"):
        by_site.check_engines(folder)
    (folder / ENGINES / ENGINE).unlink()
    assert by_site.check_engines(folder) == []


def test_without_cryptography_the_extra_is_named_and_nothing_else_is_lost(folder):
    sign_by(folder, AGENCY)
    (folder / "key.pub").write_text("")
    program = """
import sys
from pathlib import Path
sys.modules["cryptography"] = None
from stunet_deploy.errors import StunetError
from stunet_deploy.signature import Trust, signatures_of
folder = Path(sys.argv[1])
print(signatures_of(folder)[0].key)
try:
    Trust.read([folder / "key.pub"])
except StunetError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program, folder], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(AGENCY.public)
    assert "pip install 'stunet-deploy[sign]'" in done.stdout
