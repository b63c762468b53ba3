"""Signed files: every change is found, in every format, and nothing needs the network."""

import contextlib
import io
import json
import shutil
import struct
import subprocess
import sys
import time
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

from jaxgen.drawing import to_animation, to_png
from jaxgen.errors import UserError
from jaxgen.provenance import credentials, keys
from jaxgen.provenance.credentials import BROKEN, COMPOSITE, NONE, TRUSTED, UNKNOWN, Seal, check, signed

c2pa = pytest.importorskip("c2pa", reason="c2pa-python comes with the extra provenance")

IMAGE = np.random.default_rng(0).integers(0, 256, (28, 28, 1), dtype=np.uint8)
DESCRIBED = {"model": "vae", "kind": "samples", "seeds": "5 3", "step": 200, "options": '{"num": 4}'}
DESCRIBED |= {"parameters_sha256": {"5": "ab" * 32}, "watermark": "0123456789abcdef"}


def npz(write=np.savez):
    file = io.BytesIO()
    write(file, image=np.stack([IMAGE, 255 - IMAGE])[:, :8, :8], seed=np.arange(2))
    return file.getvalue()


def jpeg():
    file = io.BytesIO()
    Image.fromarray(IMAGE[..., 0]).save(file, "JPEG")
    return file.getvalue()


FILES = {
    ".png": to_png(IMAGE),
    ".jpg": jpeg(),
    ".webp": to_animation([IMAGE, IMAGE // 2], [100, 100], ".webp"),
    ".gif": to_animation([IMAGE, IMAGE // 2], [100, 100], ".gif"),
    ".npz": npz(),
}


def frames(content):
    with Image.open(io.BytesIO(content)) as picture:
        for i in range(getattr(picture, "n_frames", 1)):
            picture.seek(i)
            yield np.asarray(picture.convert("L")).copy()


def chunks(png):
    """Chunks of a PNG: (type, content)."""
    place, found = 8, []
    while place < len(png):
        length, kind = struct.unpack(">I4s", png[place : place + 8])
        found.append((kind, png[place + 8 : place + 8 + length]))
        place += 12 + length
    return found


def joined(parts):
    packed = (struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


@pytest.fixture(scope="module")
def png(signer):
    return signed(FILES[".png"], DESCRIBED, signer)


@pytest.mark.parametrize("suffix", FILES)
def test_a_signed_file_is_trusted_and_shows_the_same(suffix, signer, other):
    content = signed(FILES[suffix], DESCRIBED, signer)
    assert check(content, signer.root) == (TRUSTED, "", DESCRIBED)
    assert check(content, other.root) == (UNKNOWN, "signingCredential.untrusted", DESCRIBED)
    assert check(content, None).state == UNKNOWN
    assert check(FILES[suffix], signer.root) == (NONE, "", None)
    assert check(signed(FILES[suffix], DESCRIBED, other), signer.root).state == UNKNOWN
    if suffix == ".npz":
        with np.load(io.BytesIO(content)) as now, np.load(io.BytesIO(FILES[suffix])) as before:
            for name in ("image", "seed"):
                np.testing.assert_array_equal(now[name], before[name])
    else:
        np.testing.assert_array_equal([*frames(content)], [*frames(FILES[suffix])])


def test_taking_the_statement_out_gives_the_unsigned_file(png):
    assert joined([part for part in chunks(png) if part[0] != b"caBX"]) == FILES[".png"]


def test_every_flip_outside_the_statement_is_found(png, signer):
    start = png.index(b"caBX") - 4
    end = start + 12 + len(dict(chunks(png))[b"caBX"])
    outside = [*range(start), *range(end, len(png))]
    assert len(outside) == len(FILES[".png"])
    passed = []
    for place in outside:
        changed = bytearray(png)
        changed[place] ^= 1 << place % 8
        if check(bytes(changed), signer.root).state == TRUSTED:
            passed.append(place)
    assert not passed


@pytest.mark.slow
def test_no_flip_anywhere_changes_what_a_trusted_file_says(png, signer):
    """Flips in the statement's padding and labels pass; no pixel and no word of the description depends on them."""
    passed = 0
    for place in range(len(png)):
        changed = bytearray(png)
        changed[place] ^= 1 << place % 8
        found = check(bytes(changed), signer.root)
        if found.state == TRUSTED:
            passed += 1
            assert found.described == DESCRIBED
            with contextlib.suppress(UnidentifiedImageError):  # of a flip in the statement's checksum
                np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(bytes(changed)))), IMAGE[..., 0])
    assert 900 < passed < 1200


def test_kinds_of_tampering(png, signer):
    parts = chunks(png)
    statement = next(part for part in parts if part[0] == b"caBX")
    edited, moved = IMAGE.copy(), np.roll(IMAGE, 3, axis=0)
    edited[3, 4] ^= 1
    again = zlib.compress(zlib.decompress(b"".join(content for kind, content in parts if kind == b"IDAT")), 1)
    data, asserted = "assertion.dataHash.mismatch", "assertion.hashedURI.mismatch"

    def spliced(image):
        first, *rest = chunks(to_png(image))
        return joined([first, statement, *rest])

    file = io.BytesIO()
    Image.open(io.BytesIO(png)).save(file, "PNG")
    renamed = [(kind, content.replace(b"emodel", b"emodem") if kind == b"caBX" else content) for kind, content in parts]
    lied = [(kind, content.replace(b"cvae", b"cgan") if kind == b"caBX" else content) for kind, content in parts]
    cases = {
        "a pixel's last bit": (spliced(edited), BROKEN, data),
        "the statement on another image": (spliced(moved), BROKEN, data),
        "the same pixels compressed again": (joined([parts[0], statement, (b"IDAT", again), parts[-1]]), BROKEN, data),
        "a text added": (joined([*parts[:-1], (b"tEXt", b"Author\0me"), parts[-1]]), BROKEN, data),
        "bytes after the end": (png + b"xx", BROKEN, data),
        "another model": (joined(lied), BROKEN, asserted),
        "another field": (joined(renamed), BROKEN, asserted),
        "two statements": (joined([parts[0], statement, *parts[1:]]), BROKEN, None),
        "a truncated file": (png[:-30], BROKEN, None),
        "saved again": (file.getvalue(), NONE, ""),
        "no statement": (joined([part for part in parts if part != statement]), NONE, ""),
    }
    for name, (content, state, reason) in cases.items():
        found = check(content, signer.root)
        assert found.state == state, (name, found)
        assert reason is None or reason in found.reason, (name, found)
    assert [part for part in lied if part not in parts]  # the change was made


def test_every_byte_of_an_npz_is_covered(signer, other):
    content = signed(FILES[".npz"], DESCRIBED, signer)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [each for each in archive.infolist() if each.filename.endswith(".npy")]
        stored = {each.filename: archive.read(each) for each in members}
    assert {each.filename for each in members} == {"image.npy", "seed.npy"}
    for name, whole in stored.items():
        start = content.index(whole)
        for place in range(start, start + len(whole)):
            changed = bytearray(content)
            changed[place] ^= 1
            assert check(bytes(changed), signer.root).state == BROKEN, (name, place - start)

    def archived(**changes):
        file = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(file, "w") as made:
            for name in archive.namelist():
                if changes.get("drop") != name:
                    made.writestr(name, archive.read(name))
            if "add" in changes:
                made.writestr(changes["add"], b"x")
        return file.getvalue()

    for changes in ({"drop": "seed.npy"}, {"add": "more.npy"}):
        assert check(archived(**changes), signer.root).state == BROKEN, changes


def test_a_compressed_npz_cannot_be_signed(signer):
    with pytest.raises(UserError, match=r"^cannot sign: .*compression method not supported"):
        signed(npz(np.savez_compressed), DESCRIBED, signer)


def test_what_is_signed_with_a_file(png, signer):
    """Read by the library itself: a trained model made the file, and it is not to be trained on."""
    content = signed(FILES[".png"], {"model": "vae"}, signer, COMPOSITE)
    read = []
    for each in (png, content):
        with c2pa.Reader("image/png", io.BytesIO(each)) as reader:
            made = json.loads(reader.json())
        manifest = made["manifests"][made["active_manifest"]]
        read.append({each["label"]: each["data"] for each in manifest["assertions"]})
    (action,) = read[0]["c2pa.actions.v2"]["actions"]
    assert action["digitalSourceType"].endswith("/trainedAlgorithmicMedia")
    assert action["softwareAgent"]["name"] == "jaxgen"
    assert read[0]["c2pa.soft-binding"]["blocks"] == [{"scope": {}, "value": "0123456789abcdef"}]
    uses = read[0]["cawg.training-mining"]["entries"].values()
    assert {use["use"] for use in uses} == {"notAllowed"}
    (action,) = read[1]["c2pa.actions.v2"]["actions"]
    assert action["digitalSourceType"].endswith("/compositeWithTrainedAlgorithmicMedia")
    assert "c2pa.soft-binding" not in read[1]


def test_a_seal_knows_its_own_files(signer, other):
    seal, content = Seal(signer, DESCRIBED), FILES[".png"]
    first, second = (seal.signed(content, index=3) for _ in range(2))
    assert first != second
    assert seal.holds(first, content, index=3)
    assert seal.holds(second, content, index=3)
    assert not seal.holds(first, content, index=4)
    assert not seal.holds(first, to_png(255 - IMAGE), index=3)
    assert not seal.holds(content, content, index=3)
    assert not Seal(other, DESCRIBED).holds(first, content, index=3)


@pytest.mark.slow  # it waits for the end of a certificate
def test_a_signature_ends_with_the_signers_certificate(make_keys, monkeypatch):
    monkeypatch.setattr(keys, "DAYS", (300 + 3) / 86400)  # certificates begin five minutes ago
    content = signed(FILES[".png"], DESCRIBED, brief := make_keys("brief"))
    assert check(content, brief.root).state == TRUSTED
    time.sleep(5)
    found = check(content, brief.root)
    assert found.state == BROKEN
    assert "signingCredential.expired" in found.reason


def test_files_that_are_none(signer):
    for content in (b"", b"hello", b"\x89PNG", b"PK", b"RIFF....WEBP", FILES[".png"][:100]):
        assert check(content, signer.root) == (NONE, "", None)


def test_a_file_that_was_never_signed_is_not_broken(signer):
    """Only what has a statement can have been changed since; one that lies elsewhere, by its address, is none."""
    for suffix, content in FILES.items():
        assert check(content[: len(content) * 2 // 3], signer.root).state == NONE, suffix
        if suffix != ".npz":  # of which the statement comes last
            part = signed(content, DESCRIBED, signer)
            assert check(part[: len(part) * 2 // 3], signer.root).state == BROKEN, suffix
    address = (
        b'<rdf:Description xmlns:dcterms="http://purl.org/dc/terms/" dcterms:provenance="http://192.0.2.1/a.c2pa"/>'
    )
    rdf = b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">' + address + b"</rdf:RDF>"
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/">' + rdf + b"</x:xmpmeta>"
    first, *rest = chunks(FILES[".png"])
    remote = joined([first, (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp), *rest])
    assert check(remote, signer.root) == (NONE, "", None)


def test_signing_and_checking_do_without_a_network(tmp_path, signer):
    """Runs both in a namespace that has no network."""
    isolated = ["unshare", "--map-root-user", "--net"]
    if not shutil.which("unshare") or subprocess.run([*isolated, "true"], capture_output=True).returncode:
        pytest.skip("this system lets no user unshare its network")
    script = (
        "import socket\n"
        "from jaxgen.drawing import to_png\n"
        "from jaxgen.provenance import credentials, keys\n"
        "import numpy as np\n"
        "try:\n    socket.create_connection(('192.0.2.1', 80), timeout=1)\n"
        "except OSError as error:\n    print(error.errno)\n"
        "keys.make(keys.keys_dir())\n"
        "own = keys.own_keys()\n"
        "content = credentials.signed(to_png(np.zeros((8, 8, 1), np.uint8)), {'model': 'vae'}, own)\n"
        "print(credentials.check(content, own.root).state)\n"
    )
    environment = {"JAXGEN_KEYS_DIR": str(tmp_path / "keys"), "PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path)}
    ran = subprocess.run([*isolated, sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert ran.stdout == "101\ntrusted\n", ran.stderr  # 101: the network is unreachable


def test_without_the_package_a_line_says_how_to_install_it(signer, monkeypatch):
    monkeypatch.setitem(sys.modules, "c2pa", None)
    words = r"^this needs c2pa: pip install 'jaxgen\[provenance\]'$"
    for call in (lambda: check(b"", None), lambda: signed(FILES[".png"], DESCRIBED, signer)):
        with pytest.raises(UserError, match=words):
            call()


def test_formats_by_their_first_bytes():
    assert {suffix: credentials.media_type(content) for suffix, content in FILES.items()} == {
        ".png": "image/png",
        ".jpg": "image/jpeg",
        ".webp": "image/webp",
        ".gif": "image/gif",
        ".npz": "zip",
    }
    assert credentials.media_type(b"%PDF") is None
