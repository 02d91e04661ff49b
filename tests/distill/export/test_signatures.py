"""Only the owner of the key can sign a bundle, and a changed bundle loses its signature."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from curation.errors import UserError
from distill.cli.bundles import write_changed
from distill.cli.main import app
from distill.daemon.delivery import deliver
from distill.daemon.remote_bundle import fetch
from distill.export.checksums import SIGNATURE_NAME, SUMS_NAME
from distill.export.signatures import check_signature, sign
from tests.distill.daemon.test_daemon_delivery import make_bundle
from tests.distill.daemon.test_remote_bundle import Elsewhere, elsewhere

pytest.importorskip("cryptography")
__all__ = ["elsewhere"]


def write_keys(folder: Path) -> tuple[Path, Path]:
    """A private key and its public key."""
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    folder.mkdir(exist_ok=True)
    private, public = folder / "sign.pem", folder / "sign.pub"
    key = Ed25519PrivateKey.generate()
    private.write_bytes(
        key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    )
    public.write_bytes(
        key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return write_keys(tmp_path / "keys")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "bundle")


def run(*words: object) -> str:
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False).stdout


def test_only_the_owner_of_the_key_is_accepted(bundle, keys, tmp_path):
    private, public = keys
    assert json.loads(run("sign", bundle, "--key", private, "--json"))["signature"].endswith(".sig")
    check_signature(bundle, public)
    with pytest.raises(UserError, match="is not the signature of this bundle by the owner of"):
        check_signature(bundle, write_keys(tmp_path / "others")[1])
    with (bundle / SUMS_NAME).open("a") as file:
        file.write(f"{'0' * 64}  more\n")
    with pytest.raises(UserError, match="was changed after it was signed"):
        check_signature(bundle, public)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl here")
def test_openssl_makes_keys_and_checks_signatures(bundle, tmp_path):
    for words in (
        "genpkey -algorithm ed25519 -out sign.pem",
        "pkey -in sign.pem -pubout -out sign.pub",
    ):
        subprocess.run(["openssl", *words.split()], cwd=tmp_path, check=True, capture_output=True)
    sign(bundle, tmp_path / "sign.pem")
    check_signature(bundle, tmp_path / "sign.pub")
    words = "pkeyutl -verify -pubin -inkey sign.pub -rawin -in bundle/SHA256SUMS -sigfile"
    subprocess.run(
        ["openssl", *words.split(), bundle / SIGNATURE_NAME],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip


_SM2 = (
    "MIGHAgEAMBMGByqGSM49AgEGCCqBHM9VAYItBG0wawIBAQQgNy/Qq+/o6Iv7Q0MvGBUldHk4rLQUAb+qqAssYroZQ42h"
    "RANCAAQUAQEpeL0htejnqh2IkQ31/F1LkgqiJhrXu9BiV3Y6pDfCR7QjFMen00TZM4Lw1fF1sTECv+d9GK6qOnY64zFQ",
    "MFkwEwYHKoZIzj0CAQYIKoEcz1UBgi0DQgAEFAEBKXi9IbXo56odiJEN9fxdS5IKoiYa17vQYld2OqQ3wke0IxTHp9NE"
    "2TOC8NXxdbExAr/nfRiuqjp2OuMxUA==",
)
"""A private and a public key of a curve that cryptography does not know"""


def test_keys_of_an_unknown_kind_say_how_to_make_one(bundle, tmp_path, keys):
    for kind, content in zip(("PRIVATE", "PUBLIC"), _SM2, strict=True):
        pem = f"-----BEGIN {kind} KEY-----\n{content}\n-----END {kind} KEY-----\n"
        (tmp_path / kind).write_text(pem)
    with pytest.raises(UserError, match="no ed25519 private key without a password"):
        sign(bundle, tmp_path / "PRIVATE")
    sign(bundle, keys[0])
    with pytest.raises(UserError, match="no ed25519 public key"):
        check_signature(bundle, tmp_path / "PUBLIC")


@pytest.mark.parametrize("content", [b"", b"no key", b"-----BEGIN PUBLIC KEY-----\nAAAA\n"])
def test_a_file_without_a_key_says_how_to_make_one(content, bundle, tmp_path, keys):
    wrong = tmp_path / "wrong"
    wrong.write_bytes(content)
    with pytest.raises(UserError, match=r"no ed25519 private key .*openssl genpkey"):
        sign(bundle, wrong)
    sign(bundle, keys[0])
    with pytest.raises(UserError, match="no ed25519 public key; write it with `openssl pkey"):
        check_signature(bundle, wrong)
    with pytest.raises(UserError, match="no ed25519 public key"):
        check_signature(bundle, keys[0])


@pytest.mark.parametrize("content", [b"", b"x" * 64, b"x" * 65, None])
def test_an_invalid_signature_is_refused(content, bundle, keys):
    if content is not None:
        (bundle / SIGNATURE_NAME).write_bytes(content)
    with pytest.raises(UserError, match=r"SHA256SUMS\.sig"):
        check_signature(bundle, keys[1])


@pytest.mark.parametrize("length", [0, 40, 65])
def test_a_damaged_signature_is_not_pulled(bundle, tmp_path, length: int):
    (bundle / SIGNATURE_NAME).write_bytes(bytes(length))
    with pytest.raises(UserError, match=rf"SHA256SUMS\.sig: it has {length} bytes"):
        deliver(bundle, tmp_path / "pulled")
    assert not (tmp_path / "pulled").exists()


def test_a_damaged_bundle_is_not_signed(bundle, keys):
    (bundle / "model.onnx").write_bytes(b"other")
    with pytest.raises(UserError, match="its SHA-256 differs from"):
        sign(bundle, keys[0])
    assert not (bundle / SIGNATURE_NAME).exists()


def test_a_pull_copies_and_checks_the_signature(bundle, keys, tmp_path):
    there = tmp_path / "there"
    assert deliver(bundle, there)
    with pytest.raises(UserError, match="it is not signed"):
        deliver(bundle, tmp_path / "unsigned", key=keys[1])
    assert not (tmp_path / "unsigned").exists()
    sign(bundle, keys[0])
    assert deliver(bundle, there, force=True, key=keys[1])  # the existing bundle was unsigned
    assert not deliver(bundle, there, key=keys[1])
    check_signature(there, keys[1])


def test_a_link_is_not_a_signature_and_is_not_read(bundle, keys, tmp_path):
    (tmp_path / "secret").write_bytes(b"not for others")
    (bundle / SIGNATURE_NAME).symlink_to(tmp_path / "secret")
    with pytest.raises(UserError, match="it is not signed"):
        check_signature(bundle, keys[1])
    assert deliver(bundle, tmp_path / "pulled")
    assert not (tmp_path / "pulled" / SIGNATURE_NAME).exists()


@pytest.mark.parametrize("is_signed", [True, False], ids=["signed", "unsigned"])
def test_a_changed_bundle_loses_its_signature_with_a_hint(bundle, keys, capsys, is_signed):
    if is_signed:
        sign(bundle, keys[0])
    write_changed(bundle, bundle, lambda copy: None)
    assert not (bundle / SIGNATURE_NAME).exists()
    told = " ".join(capsys.readouterr().err.split())
    assert (f"sign it with `distill sign {bundle} --key sign.pem`" in told) is is_signed


def test_a_pull_over_http_checks_before_it_fetches(elsewhere: Elsewhere, keys, tmp_path):
    with pytest.raises(UserError, match=f"{elsewhere.url}: it is not signed"):
        fetch(elsewhere.url, tmp_path / "here", "secret", key=keys[1])
    assert "model.onnx" not in {name for name, _ in elsewhere.asked}
    sign(elsewhere.folder, keys[0])
    assert fetch(elsewhere.url, tmp_path / "here", "secret", key=keys[1])
    check_signature(tmp_path / "here", keys[1])


def test_verify_stops_at_a_wrong_signature_before_running(bundle, keys):
    (bundle / SIGNATURE_NAME).write_bytes(bytes(64))
    with pytest.raises(UserError, match="is not the signature"):
        run("verify", bundle, "--key", keys[1])
