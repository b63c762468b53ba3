"""Keys of a signer: what is written, who can read it, and what is refused."""

import datetime
import hashlib
import stat

import pytest

from jaxgen.errors import UserError
from jaxgen.provenance import keys

x509 = pytest.importorskip("cryptography.x509", reason="cryptography comes with the extra provenance")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXGEN_KEYS_DIR", str(tmp_path / "some" / "keys"))
    return keys.keys_dir()


def test_keys_are_readable_by_the_owner_alone_and_not_overwritten(folder):
    made = keys.make(folder)
    assert [file.name for file in made] == ["root.pem", "leaf.pem", "leaf.key", "watermark.key"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in made} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    before = [file.read_bytes() for file in made]
    with pytest.raises(UserError, match=r"keys exists, and keys are not overwritten: set JAXGEN_KEYS_DIR"):
        keys.make(folder)
    assert [file.read_bytes() for file in made] == before
    assert sorted(path.name for path in folder.parent.iterdir()) == ["keys"]


def test_the_root_issued_the_signer_whose_key_is_kept_and_the_roots_is_not(folder):
    keys.make(folder)
    loaded = keys.own_keys()
    root, leaf = (x509.load_pem_x509_certificate(pem) for pem in (loaded.root, loaded.leaf))
    leaf.verify_directly_issued_by(root)
    root.verify_directly_issued_by(root)
    from cryptography.hazmat.primitives import serialization

    private = serialization.load_pem_private_key(loaded.private, None)
    assert private.public_key() == leaf.public_key() != root.public_key()
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc == datetime.timedelta(days=3650)
    constraints = [each.extensions.get_extension_for_class(x509.BasicConstraints) for each in (root, leaf)]
    assert [(each.critical, each.value.ca, each.value.path_length) for each in constraints] == [
        (True, True, 0),
        (True, False, None),
    ]
    usages = [each.extensions.get_extension_for_class(x509.KeyUsage).value for each in (root, leaf)]
    assert [(each.digital_signature, each.key_cert_sign) for each in usages] == [(False, True), (True, False)]
    assert loaded.watermark.hex() == (folder / "watermark.key").read_text()
    assert len(loaded.watermark) == 32


def test_keys_are_never_in_the_folder_of_a_run(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    for folder in (tmp_path / "run", tmp_path / "run" / "a" / "keys"):
        with pytest.raises(UserError, match="lies in a run's folder, which may be shared: set JAXGEN_KEYS_DIR"):
            keys.make(folder)
    (tmp_path / "link").symlink_to(tmp_path / "run")
    with pytest.raises(UserError, match="lies in a run's folder"):
        keys.make(tmp_path / "link" / "keys")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["config.json"]


def test_the_folder_is_where_the_variables_say(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXGEN_KEYS_DIR", "~/mine")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert keys.keys_dir() == tmp_path / "mine"
    monkeypatch.delenv("JAXGEN_KEYS_DIR")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "x"))
    assert keys.keys_dir() == tmp_path / "x" / "jaxgen" / "keys"
    monkeypatch.delenv("XDG_CONFIG_HOME")
    assert keys.keys_dir() == tmp_path / ".config" / "jaxgen" / "keys"


def test_missing_and_damaged_keys_are_one_line(folder, tmp_path):
    with pytest.raises(UserError, match=r"^no keys in .*: `jaxgen keys make` makes them$"):
        keys.own_keys()
    assert keys.trusted_root() is None
    keys.make(folder)
    assert keys.trusted_root() == (folder / "root.pem").read_bytes() == keys.trusted_root(folder / "root.pem")
    (tmp_path / "x").write_text("ab" * 31)
    with pytest.raises(UserError, match="x is no watermark key: it does not hold 32 bytes in hexadecimal"):
        keys.watermark_key(tmp_path / "x")
    with pytest.raises(UserError, match="is no watermark key"):
        keys.watermark_key(folder / "root.pem")
    with pytest.raises(UserError, match=r"cannot read .*none \(No such file"):
        keys.watermark_key(tmp_path / "none")
    with pytest.raises(UserError, match=r"x is no certificate in PEM, such as root\.pem"):
        keys.trusted_root(tmp_path / "x")
    with pytest.raises(UserError, match=r"cannot read .*none: No such file"):
        keys.trusted_root(tmp_path / "none")


def test_keys_that_do_not_belong_together_sign_nothing(folder, tmp_path):
    """A signer's file that is damaged, or another's, would give signatures that nobody can verify."""
    keys.make(folder)
    keys.make(tmp_path / "other")
    for name in ("root.pem", "leaf.pem", "leaf.key"):
        own = (folder / name).read_bytes()
        for wrong in (b"\xff none", b"", own[:-40], (tmp_path / "other" / name).read_bytes()):
            (folder / name).write_bytes(wrong)
            with pytest.raises(UserError, match=r"^root\.pem, leaf\.pem and leaf\.key in .* are damaged, or do not"):
                keys.own_keys()
        if name == "root.pem":
            for wrong in (b"\xff none", b"", own[:-40], (folder / "leaf.key").read_bytes()):
                (folder / name).write_bytes(wrong)
                with pytest.raises(UserError, match=r"root\.pem is no certificate in PEM"):
                    keys.trusted_root()
        (folder / name).write_bytes(own)
    assert keys.own_keys().root == keys.trusted_root()


def test_the_name_of_a_key_is_a_hash():
    """The hash is of a name and the key, so that it is of no other use."""
    assert keys.key_id(b"\1" * 32) == hashlib.sha256(b"jaxgen.key-id\0" + b"\1" * 32).hexdigest()[:16]
