"""Content Credentials (C2PA) of files that jaxgen writes: signed statements inside a PNG, JPEG, WebP, GIF or npz.

The signature covers every byte of the file but the statement's own padding. It names the model, the digests of its
parameters, the seed and the dataset. A file that was saved again has lost its statement: that proves nothing. Only
`TRUSTED` is a yes: anyone can sign with a certificate of their own, which is `UNKNOWN`.

Nothing here uses the network: statements are embedded, and neither remote statements nor revocations are fetched.

Source: C2PA 2.2, https://spec.c2pa.org.
"""

import hashlib
import io
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import jaxgen
from jaxgen.errors import UserError
from jaxgen.provenance.keys import Keys, imported

TRUSTED, UNKNOWN, BROKEN, NONE = "trusted", "unknown signer", "broken", "none"
"""States of a signature: by a signer of the trusted root; by anyone else; the file was changed; there is none."""

STATES = {"Trusted": TRUSTED, "Valid": UNKNOWN}

FORMATS = {
    ".png": (b"\x89PNG", "image/png"),
    ".jpg": (b"\xff\xd8\xff", "image/jpeg"),
    ".webp": (b"RIFF", "image/webp"),
    ".gif": (b"GIF8", "image/gif"),
    ".npz": (b"PK\3\4", "zip"),
}
"""Map from suffix to (first bytes, media type of the C2PA library) of the formats that can be signed."""

SAMPLE, WATERMARK = "org.jaxgen.sample", "org.jaxgen.watermark.1"
"""Labels of jaxgen's own assertion, and of its watermark."""

GENERATED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
COMPOSITE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
MIXED = "http://cv.iptc.org/newscodes/digitalsourcetype/composite"
"""IPTC's terms for media that a trained model made, for such media beside others, and for several of any origin."""

MARKS = b"jumb", b"content_credential.c2pa"
"""Bytes of which a file with a statement has some: the type of its boxes, and its name in an npz file."""


class Checked(NamedTuple):
    """A file's signature."""

    state: str  # TRUSTED, UNKNOWN, BROKEN or NONE
    reason: str = ""  # codes of C2PA why a file is not trusted
    described: Mapping[str, Any] | None = None  # the content of the assertion SAMPLE; of a broken file a mere claim


def media_type(content: bytes) -> str | None:
    """The C2PA library's name of a file's format by its first bytes; None for a format that cannot be signed."""
    return next((name for first, name in FORMATS.values() if content.startswith(first)), None)


class Seal(NamedTuple):
    """The signing of a picture's files."""

    keys: Keys
    described: Mapping[str, Any]  # of every file: strings and numbers, which the C2PA library returns as they are
    source: str = GENERATED  # or COMPOSITE or MIXED

    def signed(self, content: bytes, **more: Any) -> bytes:
        """Signs a file, described by `more` too."""
        return signed(content, self._all(content, more), self.keys, self.source)

    def holds(self, there: bytes, content: bytes, **more: Any) -> bool:
        """True if a file is a signed copy of `content`, by the same signer; two signed copies differ in their bytes."""
        found = check(there, self.keys.root)
        return found.state == TRUSTED and found.described == self._all(content, more)

    def _all(self, content: bytes, more: Mapping[str, Any]) -> dict[str, Any]:
        return {**self.described, **more, "unsigned_sha256": hashlib.sha256(content).hexdigest()}


def signed(content: bytes, described: Mapping[str, Any], keys: Keys, source: str = GENERATED) -> bytes:
    """Signs a file; the bytes differ each time, as signatures and salts are random.

    Args:
        content: the file, in one of `FORMATS`; an npz file must not be compressed.
        described: statements about the file, strings and numbers; lists of numbers would come back as text.
        keys: the signer's.
        source: GENERATED, COMPOSITE or MIXED.

    Raises:
        UserError: c2pa-python is not installed, or refuses the file or the keys.
    """
    c2pa = imported("c2pa")
    out = io.BytesIO()
    try:
        info = c2pa.C2paSignerInfo(alg="es256", sign_cert=keys.leaf, private_key=keys.private, ta_url=None)
        with (
            c2pa.Context.from_dict(_settings(keys.root)) as context,
            c2pa.Signer.from_info(info) as signer,
            c2pa.Builder(_manifest(described, source), context) as builder,
        ):
            builder.sign(signer, media_type(content), io.BytesIO(content), out)
    except c2pa.C2paError as error:
        raise UserError(f"cannot sign: {' '.join(str(error).split())}") from None
    return out.getvalue()


def check(content: bytes, root: bytes | None) -> Checked:
    """Checks a file's signature against a root certificate; without one no signer is trusted.

    Raises:
        UserError: c2pa-python is not installed, or the root is no certificate.
    """
    c2pa = imported("c2pa")
    kind = media_type(content)
    if kind is None:
        return Checked(NONE)
    try:
        with (
            c2pa.Context.from_dict(_settings(root)) as context,
            c2pa.Reader(kind, io.BytesIO(content), context=context) as reader,
        ):
            state, read = reader.get_validation_state(), json.loads(reader.json())
    except c2pa.C2paError as error:
        words = " ".join(str(error).split())
        none = words.startswith("ManifestNotFound") or not any(mark in content for mark in MARKS)
        return Checked(NONE) if none else Checked(BROKEN, words)
    found = read.get("validation_results", {}).get("activeManifest", {}).get("failure", [])
    codes = sorted({each["code"] for each in found})
    return Checked(STATES.get(state, BROKEN), ", ".join(codes), _described(read))


def _described(read: Mapping[str, Any]) -> Mapping[str, Any] | None:
    manifest = read.get("manifests", {}).get(read.get("active_manifest"), {})
    return next((each["data"] for each in manifest.get("assertions", ()) if each["label"] == SAMPLE), None)


def _settings(root: bytes | None) -> dict[str, Any]:
    """The C2PA library's settings: no network, and no thumbnail, which would be larger than the file."""
    return {
        "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False, "verify_after_sign": True},
        "core": {"allowed_network_hosts": []},
        "builder": {
            "thumbnail": {"enabled": False},
            "created_assertion_labels": ["c2pa.actions", SAMPLE, "cawg.training-mining"],
        },
        **({"trust": {"user_anchors": root.decode()}} if root else {}),
    }


def _manifest(described: Mapping[str, Any], source: str) -> dict[str, Any]:
    generator = {"name": "jaxgen", "version": jaxgen.__version__}
    created = {"action": "c2pa.created", "digitalSourceType": source, "softwareAgent": generator}
    uses = {name: {"use": "notAllowed"} for name in ("cawg.ai_generative_training", "cawg.ai_training")}
    assertions = {
        "c2pa.actions.v2": {"actions": [created], "allActionsIncluded": True},
        SAMPLE: dict(described),
        "cawg.training-mining": {"entries": uses},
    }
    if "watermark" in described:
        assertions["c2pa.soft-binding"] = {
            "alg": WATERMARK,
            "blocks": [{"scope": {}, "value": described["watermark"]}],
        }
    return {
        "claim_generator_info": [generator],
        "title": " of ".join(str(described[name]) for name in ("kind", "model") if name in described) or "picture",
        "assertions": [{"label": label, "data": data} for label, data in assertions.items()],
    }
