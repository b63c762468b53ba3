"""Keys of this user: a certificate authority of one signer, and the secret of the watermarks.

root.pem        the root certificate, to be published: who trusts it trusts what the signer signs
leaf.pem        the signer's certificate, issued by the root
leaf.key        the signer's private key, readable by the owner alone
watermark.key   32 random bytes in hexadecimal, readable by the owner alone

The root's private key is not kept, so no second signer can be issued. A local root proves that whoever holds leaf.key
signed; it proves no identity.
"""

import datetime
import hashlib
import importlib
import os
import secrets
import ssl
import tempfile
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from jaxgen.errors import UserError

ROOT, LEAF, PRIVATE, WATERMARK = "root.pem", "leaf.pem", "leaf.key", "watermark.key"

DAYS = 3650
"""Validity of both certificates. Without a time stamp, which needs the network, a signature ends with them."""

WATERMARK_BYTES = 32

RUN_FILE = "config.json"
"""A file by which a run's folder is recognized."""


class Keys(NamedTuple):
    """The content of a folder of keys."""

    root: bytes  # PEM
    leaf: bytes  # PEM
    private: bytes  # PEM, PKCS #8
    watermark: bytes


def imported(name: str) -> ModuleType:
    """Imports a module of the extra `provenance`; raises UserError if it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UserError(f"this needs {name.partition('.')[0]}: pip install 'jaxgen[provenance]'") from None


def keys_dir() -> Path:
    """The folder of the keys: JAXGEN_KEYS_DIR, or jaxgen/keys in the user's configuration folder."""
    if chosen := os.environ.get("JAXGEN_KEYS_DIR"):
        return Path(os.path.expanduser(chosen)).absolute()
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    if base.startswith("~"):
        raise UserError("no folder for keys, as there is no home folder: JAXGEN_KEYS_DIR names one")
    return Path(base).absolute() / "jaxgen" / "keys"


def make(folder: Path) -> list[Path]:
    """Makes new keys in a folder, which only its owner can read; returns the files.

    Raises:
        UserError: the folder has keys, lies in a run's folder, which is shared as a whole, or cannot be written.
    """
    place = folder.resolve()
    if any((above / RUN_FILE).exists() for above in (place, *place.parents)):
        raise UserError(f"{folder} lies in a run's folder, which may be shared: set JAXGEN_KEYS_DIR to another")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists, and keys are not overwritten: set JAXGEN_KEYS_DIR to a new folder")
    made = _issued()
    contents = {ROOT: made.root, LEAF: made.leaf, PRIVATE: made.private, WATERMARK: made.watermark.hex().encode()}
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f"{folder.name}.", dir=folder.parent) as temporary:  # of mode 0700
            new = Path(temporary) / "keys"
            new.mkdir(mode=0o700)
            for name, content in contents.items():
                with open(os.open(new / name, os.O_CREAT | os.O_WRONLY, 0o600), "wb") as file:
                    file.write(content)
            new.rename(folder)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror}; set JAXGEN_KEYS_DIR to another folder") from None
    return [folder / name for name in contents]


def own_keys() -> Keys:
    """Reads the keys of `keys_dir`; raises UserError if they are missing, damaged, or do not belong together."""
    folder = keys_dir()
    try:
        root, leaf, private = ((folder / name).read_bytes() for name in (ROOT, LEAF, PRIVATE))
    except FileNotFoundError:
        raise UserError(f"no keys in {folder}: `jaxgen keys make` makes them") from None
    except OSError as error:
        raise UserError(f"cannot read the keys in {folder} ({error.strerror})") from None
    if not _belong(root, leaf, private):
        raise UserError(f"{ROOT}, {LEAF} and {PRIVATE} in {folder} are damaged, or do not belong together")
    return Keys(root, leaf, private, watermark_key(folder / WATERMARK))


def _belong(root: bytes, leaf: bytes, private: bytes) -> bool:
    """True if the root issued the signer's certificate, and the private key is the signer's."""
    imported("cryptography")
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import serialization

    try:
        issuer, signer = (x509.load_pem_x509_certificate(pem) for pem in (root, leaf))
        signer.verify_directly_issued_by(issuer)
        return serialization.load_pem_private_key(private, None).public_key() == signer.public_key()
    except (InvalidSignature, ValueError, TypeError):  # the last of a key with a password
        return False


def watermark_key(path: Path) -> bytes:
    """Reads the secret of watermarks; raises UserError if the file is missing or holds something else."""
    try:
        found = bytes.fromhex(path.read_text().strip())
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}): `jaxgen keys make` makes {WATERMARK}") from None
    except ValueError:
        found = b""
    if len(found) != WATERMARK_BYTES:
        raise UserError(f"{path} is no watermark key: it does not hold {WATERMARK_BYTES} bytes in hexadecimal")
    return found


def trusted_root(path: Path | None = None) -> bytes | None:
    """Reads the root certificate to be trusted: that at `path` or, if not given, this user's own, None without one.

    Raises UserError if the file is missing or no certificate.
    """
    if path is None:
        path = keys_dir() / ROOT
        if not path.exists():
            return None
    try:
        content = path.read_bytes()
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=content.decode("ascii"))
    except (ssl.SSLError, ValueError):  # the former is an OSError
        raise UserError(f"{path} is no certificate in PEM, such as {ROOT}") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    return content


def key_id(key: bytes) -> str:
    """A public name of a watermark's key, 16 hexadecimal digits, that does not reveal it."""
    return hashlib.sha256(b"jaxgen.key-id\0" + key).hexdigest()[:16]


def _issued() -> Keys:
    """A root, a signer that it issued, and a secret; C2PA requires these extensions of the signer's certificate."""
    imported("cryptography")
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    def named(name):
        attributes = {"ORGANIZATION_NAME": "jaxgen (local)", "COMMON_NAME": f"jaxgen local {name}"}
        return x509.Name([x509.NameAttribute(getattr(x509.oid.NameOID, oid), text) for oid, text in attributes.items()])

    root_key, leaf_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=5)  # clocks differ

    def certificate(name, key, ca):
        usages = ["digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"]
        usages += ["key_cert_sign", "crl_sign", "encipher_only", "decipher_only"]
        allowed = ("key_cert_sign", "crl_sign") if ca else ("digital_signature",)
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        builder = x509.CertificateBuilder(
            issuer_name=named("root"),
            subject_name=named(name),
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=start,
            not_valid_after=start + datetime.timedelta(days=DAYS),
        )
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=0 if ca else None), critical=True)
        builder = builder.add_extension(x509.KeyUsage(**{usage: usage in allowed for usage in usages}), critical=True)
        builder = builder.add_extension(identifier, critical=False)
        if not ca:
            issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key())
            purpose = x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.EMAIL_PROTECTION])
            builder = builder.add_extension(issuer, critical=False).add_extension(purpose, critical=False)
        return builder.sign(root_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    private = leaf_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    root, leaf = certificate("root", root_key, ca=True), certificate("signer", leaf_key, ca=False)
    return Keys(root, leaf, private, secrets.token_bytes(WATERMARK_BYTES))
