"""Signatures of runs: every change of a signed file is found, and another program accepts them."""

import base64
import json
import shutil
import subprocess
import sys

import pytest

from jaxgen.errors import UserError
from jaxgen.provenance import signature
from jaxgen.provenance.signature import ChangedError, check, file_digests, signed

pytest.importorskip("cryptography", reason="cryptography comes with the extra provenance")

FILES = {"config.json": b"{}", "checkpoints/4/a": b"\0\1", "checkpoints/8/b": b""}


@pytest.fixture
def folder(tmp_path, signer):
    for name, content in FILES.items():
        (tmp_path / "run" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "run" / name).write_bytes(content)
    content = signed("run", file_digests(tmp_path / "run", FILES), signer)
    (tmp_path / "run" / "model.sig").write_bytes(content)
    return tmp_path / "run"


def test_files_are_as_they_were_signed(folder, signer):
    assert check(folder, FILES, signer.root).startswith("3 files, signed by ")


def test_each_change_is_named(folder, signer):
    for name in FILES:
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole + b"x")
        with pytest.raises(ChangedError, match=f"{name} was changed since `jaxgen sign`"):
            check(folder, FILES, signer.root)
        (folder / name).write_bytes(whole)
        with pytest.raises(ChangedError, match=f"{name} was removed since"):
            check(folder, FILES.keys() - {name}, signer.root)
    (folder / "model.py").write_text("")
    with pytest.raises(ChangedError, match=r"model\.py was added since"):
        check(folder, [*FILES, "model.py"], signer.root)


def test_a_signature_that_was_changed(folder, signer):
    bundle = json.loads((folder / "model.sig").read_bytes())
    payload = base64.b64decode(bundle["dsseEnvelope"]["payload"])
    lied = payload.replace(b"config.json", b"konfig.json")
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(lied).decode()
    for content in (json.dumps(bundle), "{}", "", "[]", '{"verificationMaterial": 3}'):
        (folder / "model.sig").write_text(content)
        with pytest.raises(ChangedError, match=r"model\.sig was changed since it was signed|cannot read .*model\.sig"):
            check(folder, FILES, signer.root)


def test_a_key_of_another_kind_cannot_sign(signer):
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519

    forms = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    private = ed25519.Ed25519PrivateKey.generate().private_bytes(*forms)
    with pytest.raises(UserError, match=r"^leaf\.key is no key of an elliptic curve: `jaxgen keys make` makes one$"):
        signed("run", {}, signer._replace(private=private))


def test_a_signer_must_be_of_the_trusted_root(folder, signer, other):
    with pytest.raises(UserError, match=r"signed by [0-9a-f]{16}, whom the trusted root did not name$") as raised:
        check(folder, FILES, other.root)
    assert not isinstance(raised.value, ChangedError)
    with pytest.raises(UserError, match=r"and no root is trusted: --trust names its root\.pem$"):
        check(folder, FILES, None)
    (folder / "config.json").write_bytes(b"[]")
    (folder / "model.sig").write_bytes(signed("run", file_digests(folder, FILES), other))
    with pytest.raises(UserError, match="whom the trusted root did not name"):  # signed again by someone else
        check(folder, FILES, signer.root)


def test_the_statement_has_the_digests_by_hand(folder):
    """SHA-256 of "{}", of bytes 0 and 1, and of nothing, in the order of the names."""
    bundle = json.loads((folder / "model.sig").read_bytes())
    statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    digests = {each["name"]: each["digest"] for each in statement["predicate"]["resources"]}
    assert list(digests) == ["checkpoints/4/a", "checkpoints/8/b", "config.json"]
    assert digests["config.json"] == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    assert digests["checkpoints/4/a"] == "b413f47d13ee2fe6c845b2ee141af81de858df4ec549a58b7970bb96645bc8d2"
    assert digests["checkpoints/8/b"] == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert statement["predicateType"] == "https://model_signing/signature/v1.0"


@pytest.mark.slow
def test_openssfs_program_accepts_the_signature_and_refuses_a_change(folder, signer, tmp_path):
    program = shutil.which("model_signing")
    if program is None:
        pytest.skip("no model_signing here: pip install model-signing pyOpenSSL, in an environment of its own")
    (tmp_path / "root.pem").write_bytes(signer.root)
    arguments = ["--signature", folder / "model.sig", "--certificate_chain", tmp_path / "root.pem"]
    command = [program, "verify", "certificate", folder, *arguments, "--ignore_unsigned_files"]
    assert subprocess.run(command, capture_output=True).returncode == 0
    (folder / "checkpoints" / "4" / "a").write_bytes(b"\0\2")
    assert subprocess.run(command, capture_output=True).returncode == 1


def test_without_the_package_a_line_says_how_to_install_it(folder, signer, monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography", None)
    for call in (lambda: check(folder, FILES, None), lambda: signature.signed("run", {}, signer)):
        with pytest.raises(UserError, match=r"^this needs cryptography: pip install 'jaxgen\[provenance\]'$"):
            call()
