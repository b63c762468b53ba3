"""Signature of the files of a run, as OpenSSF Model Signing defines it: an in-toto statement in a Sigstore bundle.

`model_signing verify certificate FOLDER --signature FOLDER/model.sig --certificate_chain root.pem
--ignore_unsigned_files` checks the same file. Nothing is sent to a transparency log.

Sources: https://github.com/sigstore/model-transparency; https://in-toto.io/Statement/v1; the envelope,
https://github.com/secure-systems-lab/dsse/blob/master/protocol.md.
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jaxgen.errors import UserError
from jaxgen.provenance.keys import PRIVATE, Keys, imported

FILE = "model.sig"
"""Name of the signature in the folder."""

STATEMENT, PREDICATE = "https://in-toto.io/Statement/v1", "https://model_signing/signature/v1.0"
BUNDLE, PAYLOAD = "application/vnd.dev.sigstore.bundle.v0.3+json", "application/vnd.in-toto+json"

UNREADABLE = OSError, ValueError, LookupError, TypeError, AttributeError
"""Errors raised on reading a signature that is damaged or holds something else."""


class ChangedError(UserError):
    """The files differ from those that were signed, or the signature is damaged."""


def file_digests(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Map from file, sorted, to its sha256 (hex)."""
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in sorted(names)}


def signed(name: str, digests: Mapping[str, str], keys: Keys) -> bytes:
    """The signature of files.

    Args:
        name: what they are, such as their folder's name.
        digests: map from file to sha256, sorted.
        keys: the signer's.

    Raises:
        UserError: cryptography is not installed, or the key is of another kind.
    """
    imported("cryptography")
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    payload = json.dumps(_statement(name, digests)).encode()
    private = serialization.load_pem_private_key(keys.private, None)
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        raise UserError(f"{PRIVATE} is no key of an elliptic curve: `jaxgen keys make` makes one")
    signature = private.sign(_authenticated(payload), ec.ECDSA(hashes.SHA256()))
    chain = [x509.load_pem_x509_certificate(pem) for pem in (keys.leaf, keys.root)]
    raw = [{"rawBytes": _base64(each.public_bytes(serialization.Encoding.DER))} for each in chain]
    envelope = {"payload": _base64(payload), "payloadType": PAYLOAD}
    bundle = {
        "mediaType": BUNDLE,
        "verificationMaterial": {"x509CertificateChain": {"certificates": raw}, "tlogEntries": []},
        "dsseEnvelope": {**envelope, "signatures": [{"sig": _base64(signature), "keyid": ""}]},
    }
    return (json.dumps(bundle, indent=2) + "\n").encode()


def check(folder: Path, names: Iterable[str], root: bytes | None) -> str:
    """Checks a folder's signature, and that exactly the files `names` were signed with their present content.

    Returns:
        A line about the signer.

    Raises:
        ChangedError: a file, or the signature, was changed since.
        UserError: cryptography is not installed, or the signer is not of the trusted root, or none is trusted.
    """
    imported("cryptography")
    from cryptography.exceptions import InvalidSignature

    try:
        bundle = json.loads((folder / FILE).read_bytes())
        raw = bundle["verificationMaterial"]["x509CertificateChain"]["certificates"]
        leaf = _certificate(base64.b64decode(raw[0]["rawBytes"]))
        envelope = bundle["dsseEnvelope"]
        payload = base64.b64decode(envelope["payload"])
        _verify(leaf, base64.b64decode(envelope["signatures"][0]["sig"]), payload)
        signed_digests = {each["name"]: each["digest"] for each in json.loads(payload)["predicate"]["resources"]}
    except InvalidSignature:
        raise ChangedError(f"{folder / FILE} was changed since it was signed") from None
    except UNREADABLE as error:
        raise ChangedError(f"cannot read {folder / FILE}: {error!r}") from None
    found = file_digests(folder, names)
    for name in sorted(signed_digests.keys() | found.keys()):
        if signed_digests.get(name) != found.get(name):
            how = "added" if name not in signed_digests else "removed" if name not in found else "changed"
            raise ChangedError(f"{folder / name} was {how} since `jaxgen sign`")
    return f"{len(found)} files, signed by {_signer(leaf, root)}"


def _certificate(der: bytes) -> Any:
    from cryptography import x509

    return x509.load_der_x509_certificate(der)


def _verify(leaf: Any, signature: bytes, payload: bytes) -> None:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    leaf.public_key().verify(signature, _authenticated(payload), ec.ECDSA(hashes.SHA256()))


def _signer(leaf: Any, root: bytes | None) -> str:
    """The signer's fingerprint; raises UserError unless the trusted root issued the certificate and it is valid."""
    import datetime

    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes

    shown = leaf.fingerprint(hashes.SHA256()).hex()[:16]
    if root is None:
        raise UserError(f"signed by {shown}, and no root is trusted: --trust names its root.pem")
    try:
        leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(root))
    except (InvalidSignature, ValueError, TypeError):
        raise UserError(f"signed by {shown}, whom the trusted root did not name") from None
    if not leaf.not_valid_before_utc <= datetime.datetime.now(datetime.UTC) <= leaf.not_valid_after_utc:
        raise UserError(f"signed by {shown}, whose certificate was valid until {leaf.not_valid_after_utc:%Y-%m-%d}")
    return shown


def _statement(name: str, digests: Mapping[str, str]) -> dict[str, Any]:
    resources = [{"name": file, "algorithm": "sha256", "digest": digest} for file, digest in digests.items()]
    every = hashlib.sha256(b"".join(bytes.fromhex(digest) for digest in digests.values())).hexdigest()
    how = {"method": "files", "hash_type": "sha256", "allow_symlinks": False, "ignore_paths": [FILE]}
    return {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": every}}],
        "predicateType": PREDICATE,
        "predicate": {"serialization": how, "resources": resources},
    }


def _authenticated(payload: bytes) -> bytes:
    """The bytes that are signed, DSSE's pre-authentication encoding."""
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD), PAYLOAD.encode(), len(payload), payload)


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
