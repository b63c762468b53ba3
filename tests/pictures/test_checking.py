"""`jaxgen sample --sign` and `jaxgen verify-image`: what is signed, marked and drawn again, and what checks say."""

import io
import json
import re
import shutil
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from jaxgen import cli, models
from jaxgen.cli.lines import verified_line
from jaxgen.drawing import cut, enlarged, image_grid, stacked
from jaxgen.errors import UserError
from jaxgen.pictures import latents, sample
from jaxgen.pictures.checking import Means, check
from jaxgen.pictures.kinds import KINDS
from jaxgen.pictures.shown import shown_by
from jaxgen.provenance import credentials, keys, latent_marks
from jaxgen.provenance.watermark import p_value
from jaxgen.training import Settings, draws, open_run, train
from tests.cases import some_slow
from tests.models.contract import contracts
from tests.provenance.changes import jpeg

pytest.importorskip("c2pa", reason="c2pa-python comes with the extra provenance")

SEEDS = 5, 3
SMALL = {"network": "mlp", "hidden": (16,), "latent_dim": 10}
CONTRACTS = contracts()


@pytest.fixture(scope="module", autouse=True)
def own_keys(tmp_path_factory):
    """The user's keys, in a folder of their own; the secret is always the same, and with it the p-values."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXGEN_KEYS_DIR", str(tmp_path_factory.mktemp("keys") / "own"))
        keys.make(keys.keys_dir())
        (keys.keys_dir() / keys.WATERMARK).write_text(bytes(range(32)).hex())
        yield keys.keys_dir()


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Run folders by name, read-only: images of 28x28, and samples by class of 8x8."""
    folder = tmp_path_factory.mktemp("runs")
    some = {"seeds": SEEDS, "sample_every": 60, "log_every": 60}
    train("vae", SMALL, Settings(image_size=28, steps=60, **some), out=folder / "vae", progress=False)
    train(
        "naive_bayes",
        {"likelihood": "bernoulli"},
        Settings(steps=10, **some),
        out=folder / "naive_bayes",
        progress=False,
    )
    return folder


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def verified(capsys, *argv):
    """The exit status of `jaxgen verify-image`, and the results by the files' names."""
    capsys.readouterr()
    status = cli.main(["verify-image", *map(str, argv), "--json"])
    out, err = capsys.readouterr()
    assert not err, err
    results = [json.loads(line) for line in out.splitlines()]
    return status, {Path(result["file"]).name: result for result in results}


def states(results):
    return {name: result["signature"]["says"] for name, result in results.items()}


def pixels(file):
    with Image.open(file) as picture:
        return np.asarray(picture)


# Signing


def test_a_signed_file_shows_what_the_unsigned_one_shows(runs, capsys):
    for name in ("x.png", "y.gif", "z.webp", "a.npz"):
        kind = "interpolation" if name[-3:] in ("gif", "ebp") else "samples"
        plain = sample(runs / "vae", kind, num=3, out=f"plain/{name}")
        signed = sample(runs / "vae", kind, num=3, out=name, sign=True)
        assert sample(runs / "vae", kind, num=3, out=f"again/{name}").read_bytes() == plain.read_bytes()
        if name.endswith("npz"):
            with np.load(plain) as one, np.load(signed) as two:
                assert set(one) <= set(two)
                for array in one:
                    np.testing.assert_array_equal(one[array], two[array])
        else:
            np.testing.assert_array_equal(pixels(plain), pixels(signed))
    status, results = verified(capsys, "x.png", "y.gif", "z.webp", "a.npz")
    assert (status, set(states(results).values())) == (0, {"trusted"})
    described = results["x.png"]["signature"]["described"]
    opened = open_run(runs / "vae")
    assert described["parameters_sha256"] == opened.named_digests()
    assert described["dataset"] == {"name": "digits", "fingerprint": opened.plan.dataset.fingerprint}
    assert described["grid"] == {"height": 28, "width": 28, "scale": 1, "seeds": 2, "num": 3}
    assert [described[name] for name in ("model", "kind", "seeds", "checkpoint")] == ["vae", "samples", "5 3", "60"]
    assert json.loads(described["options"]) == {"num": 3}


def test_signing_again_leaves_a_file_that_holds_the_same(runs):
    for out, file in (("x.png", "x.png"), ("d/", "d/seed-3-00001.png")):
        for _ in range(2):
            sample(runs / "vae", num=2, out=out, sign=True)
            written = Path(file).read_bytes()
        assert sample(runs / "vae", num=2, out=out, sign=True)
        assert Path(file).read_bytes() == written
        with pytest.raises(UserError, match="exists with another content; choose another --out"):
            sample(runs / "vae", num=2, out=out)  # unsigned
        with pytest.raises(UserError, match="exists with another content; choose another --out"):
            sample(runs / "vae", num=3, out=out, sign=True)
        assert Path(file).read_bytes() == written


def test_keys_that_are_not_there(runs, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("JAXGEN_KEYS_DIR", str(tmp_path / "none"))
    capsys.readouterr()
    for option in (["--sign"], ["--watermark", "38"], ["--keyed"]):
        assert cli.main(["sample", str(runs / "vae"), "--out", "x.png", *option]) == 2
        assert "`jaxgen keys make` makes them" in capsys.readouterr().err
    assert not Path("x.png").exists()
    assert cli.main(["keys", "make"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == str(tmp_path / "none" / "root.pem")
    assert cli.main(["keys", "make"]) == 2
    assert "keys are not overwritten" in capsys.readouterr().err
    assert cli.main(["sample", str(runs / "vae"), "--out", "x.png", "--num", "2", "--sign"]) == 0


@pytest.mark.parametrize("name", some_slow(models.MODELS, ["naive_bayes"]))
def test_every_model_is_signed_and_every_change_found(name, runs, tmp_path, own_keys, make_keys, monkeypatch, capsys):
    """Samples of every model; of a classifier its pictures."""
    contract = CONTRACTS[name]
    how = Settings(dataset=contract.dataset, steps=1, batch_size=8, log_every=1, sample_every=1, checkpoint_every=1)
    run = train(name, contract.small, how, out=tmp_path / "run", progress=False).path
    kind = "samples" if contract.samples else "classified"
    num = {} if contract.conditional or contract.dataset != "digits" else {"num": 4}
    sample(run, kind, out="trusted.png", sign=True, **num)
    with Image.open("trusted.png") as picture:
        picture.save("saved.png")
        picture.save("saved.jpg")
        picture.crop((0, 0, picture.width - 1, picture.height)).save("cropped.png")
    content = bytearray(Path("trusted.png").read_bytes())
    content[content.rindex(b"IDAT") + 20] ^= 1
    Path("edited.png").write_bytes(content)
    monkeypatch.setenv("JAXGEN_KEYS_DIR", str(make_keys))
    sample(run, kind, out="theirs.png", sign=True, **num)
    monkeypatch.setenv("JAXGEN_KEYS_DIR", str(own_keys))
    status, results = verified(capsys, *sorted(Path().glob("*.png")), "saved.jpg")
    expected = {"trusted.png": "trusted", "saved.png": "none", "saved.jpg": "none", "cropped.png": "none"}
    assert states(results) == expected | {"edited.png": "broken", "theirs.png": "unknown signer"}
    assert status == 2
    assert results["theirs.png"]["signature"]["described"] is None  # anyone could claim it
    for file, status in (("trusted.png", 0), ("theirs.png", 3), ("saved.png", 3), ("edited.png", 2)):
        assert verified(capsys, file)[0] == status
    assert verified(capsys, "theirs.png", "--trust", make_keys / "root.pem")[0] == 0
    assert verified(capsys, "trusted.png", "--trust", make_keys / "root.pem")[0] == 3


@pytest.fixture(scope="module")
def make_keys(tmp_path_factory):
    """The folder of another signer's keys."""
    folder = tmp_path_factory.mktemp("theirs") / "keys"
    keys.make(folder)
    return folder


# Marks


def test_marked_samples_are_in_every_form(runs, own_keys, capsys):
    """The same marked images in a picture, in arrays and in files; a JPEG of the picture still shows the mark."""
    secret = keys.own_keys().watermark
    options = {"num": 7, "watermark": 38}  # two places of each grid are gray
    picture = sample(runs / "vae", out="m.png", **options)
    with np.load(sample(runs / "vae", out="m.npz", **options)) as file:
        images = file["image"]
    with np.load(sample(runs / "vae", out="p.npz", num=7)) as file:
        plain = file["image"]
    psnr = 10 * np.log10(255**2 / ((images.astype(float) - plain) ** 2).mean((1, 2, 3)))
    np.testing.assert_allclose(psnr, 38, atol=0.3)
    sample(runs / "vae", out="m/", **options)
    files = [f"seed-{seed}-{i:05}.png" for seed in SEEDS for i in range(7)]
    np.testing.assert_array_equal(np.stack([pixels(f"m/{name}") for name in files]), images[..., 0])
    np.testing.assert_array_equal(cut(pixels(picture)[..., None], (28, 28), 1, 2)[:, :7].reshape(images.shape), images)
    Image.open(picture).save("m.jpg", quality=75)
    Image.open(picture).save("m.webp", quality=75)  # as RGB, whose channels then differ
    assert (pixels("m.webp") != pixels("m.webp")[..., :1]).any()
    sample(runs / "vae", out="p.png", num=7)
    given = ["--key", own_keys / "watermark.key", "--run", runs / "vae"]
    status, results = verified(capsys, "m.png", "m.npz", "m.jpg", "m.webp", "p.png", f"m/{files[8]}", *given)
    p = {name: result["watermark"]["p"] for name, result in results.items()}
    assert status == 3  # a mark is no signature
    assert p["m.npz"] == p["m.png"] == p_value(images, secret) < 1e-20
    assert p["m.jpg"] < 1e-10
    assert p[files[8]] < 1e-6
    assert p["p.png"] > 1e-3
    assert [results[name]["redrawn"]["in_place"] for name in ("m.png", "m.npz", "m.jpg", "m.webp", "p.png")] == [
        True
    ] * 5
    shown = results[files[8]]["redrawn"]
    assert (shown["places"], shown["p"]) == ([[3, 1]], 0.05)


def test_keyed_samples_are_decoded_from_the_priors_draws_with_the_keys_signs(runs, own_keys, capsys):
    secret, opened = keys.own_keys().watermark, open_run(runs / "vae")
    with np.load(sample(runs / "vae", out="k.npz", num=120, keyed=True)) as file:
        images, seeds = file["image"].reshape(2, 120, 28, 28, 1), file["seed"]
    assert seeds.tolist() == [5] * 120 + [3] * 120
    z = latents.drawn(opened.plan.model, draws.stream_keys(opened, 0), opened.state, 120)
    signed = np.stack([np.abs(z[i]) * latent_marks.all_signs(secret, s, 120, 10) for i, s in enumerate(SEEDS)])
    np.testing.assert_array_equal(images, draws.decoded(opened.plan.model, opened.state, signed, {}))
    codes = latents.encoded(opened.plan.model, opened.state, {"image": images[0]})
    agree = (np.sign(codes[0]) == np.sign(signed[0])).mean()
    assert 0.55 < agree < 1  # the encoder recovers some of them

    sample(runs / "vae", out="s.npz", num=120, keyed=True, sign=True)
    np.savez("others.npz", image=images[0], seed=np.arange(120))
    sample(runs / "vae", out="p.npz", num=120)
    given = ["--key", own_keys / "watermark.key", "--run", runs / "vae"]
    _, results = verified(capsys, "s.npz", "k.npz", "p.npz", "others.npz", *given)
    assert results["others.npz"]["latents"]["reason"] == "the images have other seeds than the run"
    assert results["k.npz"]["latents"] == results["s.npz"]["latents"]
    assert results["k.npz"]["latents"]["signs"] == 2400
    assert results["k.npz"]["latents"]["p"] < 1e-6 < 1e-3 < results["p.npz"]["latents"]["p"]
    assert [results[name]["redrawn"]["in_place"] for name in ("s.npz", "k.npz", "p.npz")] == [True, False, True]
    _, results = verified(capsys, "s.npz", "--run", runs / "vae")
    assert "which --key must name" in results["s.npz"]["redrawn"]["reason"]


def test_one_image_of_an_unknown_place_is_searched_among_all_places(runs, own_keys, capsys):
    """Ten signs among 128 places cannot tell; the same image with its place gives a p-value."""
    sample(runs / "vae", out="k/", keyed=True, sign=True, num=64)
    Image.open("k/seed-3-00011.png").save("lost.png")
    given = ["--key", own_keys / "watermark.key", "--run", runs / "vae"]
    _, results = verified(capsys, "k/seed-3-00011.png", "lost.png", *given)
    assert 0 < results["seed-3-00011.png"]["latents"]["p"] < 1
    assert results["lost.png"]["latents"] == {"says": "nothing", "reason": "10 signs give no p-value below 0.12"}


def test_a_decoder_is_inverted_where_there_is_no_encoder(runs):
    """The codes of the VAE's own images come back without its encoder; of 40 images 24 are inverted."""
    opened = open_run(runs / "vae")
    model, secret = opened.plan.model, keys.own_keys().watermark
    lacking = model._replace(latents=model.latents._replace(encode=None))
    run = opened._replace(plan=opened.plan._replace(model=lacking))
    for keyed in (True, False):
        sample(runs / "vae", out=f"{keyed}.npz", num=12, keyed=keyed)
    found = {keyed: check(Path(f"{keyed}.npz"), Means(key=secret, run=run), {})["latents"] for keyed in (True, False)}
    assert {test["signs"] for test in found.values()} == {240}
    assert found[True]["p"] < 1e-12 < 1e-3 < found[False]["p"]
    with np.load("True.npz") as arrays:
        images = arrays["image"][:12]
    first = jax.tree.map(lambda leaf: leaf[:1], opened.state)
    codes = latents.inverted(lacking, first, images, {})
    assert codes.shape == (1, 12, 10)
    again = draws.decoded(model, first, codes, {})[0]
    assert np.abs(again.astype(int) - images).mean() < 2


@pytest.mark.slow
def test_marks_and_draws_of_a_trained_model_survive_compression(tmp_path, own_keys, capsys):
    """Signs of latents after JPEG 75 have p < 1e-50, and 300 draws after JPEG 20 are all found in their places."""
    how = Settings(image_size=16, steps=400, log_every=400, sample_every=400)
    config = {"network": "mlp", "hidden": (64,), "latent_dim": 8}
    run = train("vae", config, how, out=tmp_path / "run", progress=False).path
    given = ["--key", own_keys / "watermark.key", "--run", run]
    for name, quality, keyed in (("keyed.npz", 75, True), ("plain.npz", 20, False)):
        with np.load(sample(run, num=300, out=f"whole-{name}", keyed=keyed)) as arrays:
            np.savez(name, image=jpeg(arrays["image"], quality), seed=arrays["seed"])
    _, results = verified(capsys, "keyed.npz", "plain.npz", *given)
    assert results["keyed.npz"]["latents"]["p"] < 1e-50
    assert results["plain.npz"]["latents"]["p"] > 1e-3
    assert results["plain.npz"]["redrawn"]["in_place"]
    assert results["plain.npz"]["redrawn"]["p"] == 0.05


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("naive_bayes", {"watermark": 38}, "images of 8x8 pixels are too small for --watermark: they have 38 frequenc"),
        ("vae", {"watermark": 90}, "--watermark must be from 25 to 60 dB, such as 38, not 90"),
        ("vae", {"kind": "interpolation", "watermark": 38}, "--watermark applies to samples, not to interpolation"),
        ("vae", {"kind": "interpolation", "keyed": True}, "--keyed applies to samples, not to interpolation"),
        (
            "naive_bayes",
            {"keyed": True},
            "naive_bayes has no gaussian or uniform prior to move in; models that do: auto",
        ),
        (
            "naive_bayes",
            {"keyed": True, "rejection": 2},
            "--rejection chooses among draws, and --keyed sets their signs",
        ),
    ],
)
def test_marks_that_cannot_be(name, options, words, runs):
    with pytest.raises(UserError, match=words.replace("(", r"\(")):
        sample(runs / name, out="x.npz", **options)
    assert not Path("x.npz").exists()


# Checks that know nothing


def test_what_cannot_be_said_has_a_reason(runs, own_keys, capsys):
    given = ["--key", own_keys / "watermark.key", "--run", runs / "naive_bayes", "--reference", "digits"]
    sample(runs / "naive_bayes", out="bits.png", sign=True)
    sample(runs / "vae", "interpolation", out="path.png", sign=True)
    Image.new("L", (28, 28), 7).save("flat.png")
    Path("text.png").write_text("none")
    np.savez("words.npz", image=np.zeros((2, 28, 28, 1), np.uint8), seed=["5", "3"])
    status, results = verified(capsys, "bits.png", "path.png", "flat.png", "text.png", "words.npz", *given)
    assert status == 3
    bits = results["bits.png"]
    assert bits["redrawn"]["in_place"]
    assert len(bits["redrawn"]["places"]) == 2 * 60
    assert bits["watermark"]["reason"] == "8x8 pixels have 38 frequencies in the band, not 200"
    assert bits["latents"]["reason"] == "naive_bayes has no gaussian or uniform prior"
    assert bits["real"] == {"says": "cannot tell", "reason": bits["real"]["reason"]}
    assert "at most two levels" in bits["real"]["reason"]
    for name in ("watermark", "latents", "redrawn", "real"):
        assert results["path.png"][name]["reason"] == "a picture of kind interpolation, not of samples"
        assert results["text.png"][name]["reason"].startswith("no images in it: cannot identify image file")
    assert results["words.npz"]["watermark"]["reason"] == "no images in it: its arrays are not those of samples"
    assert results["flat.png"]["watermark"]["reason"] == "images of at most two levels hold no mark"
    assert results["flat.png"]["redrawn"]["reason"] == "images of 28x28x1, and the run's are 8x8x1"
    assert cli.main(["verify-image", "bits.png", "text.png", *map(str, given[:2])]) == 3
    first, second = capsys.readouterr().out.splitlines()
    reason = "8x8 pixels have 38 frequencies in the band, not 200"
    assert first == f"bits.png: signature trusted (naive_bayes, samples); watermark: nothing ({reason})"
    assert second.startswith("text.png: no signature; watermark: nothing (no images in it: cannot identify")


def test_draws_of_another_run_are_not_found_and_a_real_image_is_not_unlike(runs, capsys):
    """Thirty test digits, enlarged as the run's images, against the run and against the digits."""
    dataset = open_run(runs / "vae").plan.dataset
    for name, split in (("test.npz", dataset.test), ("noise.npz", None)):
        images = split["image"][:30] if split else np.random.default_rng(0).integers(0, 256, (30, 28, 28, 1))
        np.savez(name, image=images.astype(np.uint8), seed=np.repeat(SEEDS, 15))
    sample(runs / "vae", out="drawn.npz", num=15)
    given = ["--run", runs / "vae", "--reference", "digits"]
    _, results = verified(capsys, "drawn.npz", "test.npz", "noise.npz", *given)
    assert results["drawn.npz"]["redrawn"]["p"] == 0.05
    assert results["test.npz"]["redrawn"]["p"] > 0.05
    assert [results[name]["real"]["says"] for name in ("test.npz", "noise.npz", "drawn.npz")] == [
        "nothing found",
        "unlike real",
        "unlike real",
    ]


def test_files_of_another_checkpoint_are_not_drawn_again(tmp_path, own_keys, capsys):
    how = Settings(steps=20, log_every=10, sample_every=10, checkpoint_every=10)
    run = train("vae", SMALL, how, out=tmp_path / "run", progress=False).path
    sample(run, num=3, out="early.npz", checkpoint=10, sign=True)
    _, results = verified(capsys, "early.npz", "--run", run, "--key", own_keys / "watermark.key")
    words = "signed as drawn from other parameters, of vae at checkpoint 10"
    assert results["early.npz"]["redrawn"]["reason"] == results["early.npz"]["latents"]["reason"] == words
    _, results = verified(capsys, "early.npz", "--run", run, "--checkpoint", 10)
    assert results["early.npz"]["redrawn"]["in_place"]

    # Of a run of one seed, too, an image that is alone may be any sample, in its own size and in the grid's
    sample(run, num=16, out="grid.png")
    sample(run, num=16, out="d/")
    with Image.open("grid.png") as grid:
        scale = grid.width // 35  # four columns of 8 pixels, 3 lines between them
        left, top, side = 3 * 9 * scale, 2 * 9 * scale, 8 * scale
        grid.crop((left, top, left + side, top + side)).save("eleven.png")
        Image.new("L", grid.size, 128).save("gray.png")  # as a grid of which no place is taken
    np.testing.assert_array_equal(pixels("eleven.png")[::scale, ::scale], pixels("d/seed-0-00011.png"))
    _, results = verified(capsys, "grid.png", "eleven.png", "d/seed-0-00011.png", "gray.png", "--run", run)
    assert results["grid.png"]["redrawn"]["in_place"]
    assert len(results["gray.png"]["redrawn"]["places"]) == 16
    for name in ("eleven.png", "seed-0-00011.png"):
        found = results[name]["redrawn"]
        assert (found["places"], found["p"], found["in_place"]) == ([[0, 11]], 0.05, False)
        assert found["cosine"] > 0.99


def test_damaged_files_are_never_trusted_and_never_a_traceback(runs, own_keys):
    """Bytes are flipped, cut off, dropped and repeated at random, outside the statement's padding or in it."""
    rng, secret, root = np.random.default_rng(0), keys.own_keys().watermark, keys.trusted_root()
    for name in ("x.png", "x.npz"):
        whole = sample(runs / "vae", out=name, num=2, sign=True).read_bytes()
        described = check(Path(name), Means(root), {})["signature"]["described"]
        for _ in range(60):
            a, b = np.sort(rng.integers(0, len(whole), 2))
            flipped = whole[:a] + bytes([whole[a] ^ (1 << rng.integers(8))]) + whole[a + 1 :]
            changed = [flipped, whole[:a], whole[:a] + whole[b:], whole[:b] + whole[a:]][rng.integers(4)]
            Path("changed").write_bytes(changed)
            found = check(Path("changed"), Means(root, secret), {})
            if found["signature"]["says"] == "trusted":
                assert found["signature"]["described"] == described
                assert changed == whole or len(changed) == len(whole)  # a flip in the padding


def head(shape):
    """The first bytes of a .npy file of uint8."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return file.getvalue()


def archive(image, flag=0, method=0):
    """An npz file whose member `image` has any content, and says that it is encrypted or compressed somehow."""
    file, seed = io.BytesIO(), io.BytesIO()
    np.save(seed, np.arange(2))
    with zipfile.ZipFile(file, "w") as members:
        members.writestr("image.npy", image)
        members.writestr("seed.npy", seed.getvalue())
    content = bytearray(file.getvalue())
    central = content.index(b"PK\1\2")
    for place, value in ((6, flag), (8, method), (central + 8, flag), (central + 10, method)):
        content[place] |= value
    return bytes(content)


def picture(pixels, mode=None, **how):
    file = io.BytesIO()
    Image.fromarray(pixels, mode).save(file, **{"format": "PNG", **how})
    return file.getvalue()


RAMP = np.arange(28 * 28, dtype=np.uint8).reshape(28, 28)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "cannot identify image file as PNG, JPEG"),
        (b"PK is how this text begins", "cannot identify image file as PNG, JPEG"),
        (archive(b"text"), "its members are not arrays"),
        (archive(b"\x93NUMPY\1\0\x14\0" + b"{'a': [" * 3), "Cannot parse header|EOF in multi-line|unexpected EOF"),
        (archive(head((2**50, 28, 28, 1))), "Unable to allocate"),
        (archive(head((2, 28, 28, 1)), flag=1), "is encrypted"),
        (archive(head((2, 28, 28, 1)), method=99), "compression method is not supported"),
        (picture(RAMP.astype(np.uint16) * 257), "its pixels have more than 8 bits"),
        (picture(np.stack([RAMP, 255 - RAMP], -1), "LA"), "it is transparent in places"),
        (picture(RAMP, transparency=0), "it is transparent in places"),
        (picture(RAMP, format="EPS"), "cannot identify image file as PNG, JPEG"),  # else Pillow runs Ghostscript
    ],
)
def test_files_that_show_no_images_say_why(content, words):
    Path("x").write_bytes(content)
    found = check(Path("x"), Means(key=bytes(32)), {})
    assert found["signature"]["says"] == "none"
    assert found["watermark"]["says"] == "nothing"
    assert re.search(f"^no images in it: .*({words})", found["watermark"]["reason"]), found
    assert "0x" not in found["watermark"]["reason"]


def test_channels_that_show_nothing_more_are_left_out():
    """Pictures of the same gray pixels with color channels, opaque alpha, a palette or more metadata."""
    Image.fromarray(RAMP).save("gray.png")
    p = check(Path("gray.png"), Means(key=bytes(32)), {})["watermark"]["p"]
    for mode in ("RGB", "RGBA", "LA", "P"):
        Image.fromarray(RAMP).convert(mode).save("x.png")
        assert check(Path("x.png"), Means(key=bytes(32)), {})["watermark"]["p"] == p, mode


def test_seeds_of_every_integer_type_are_places():
    for kind in (np.uint8, np.int64, np.uint64):
        file = io.BytesIO()
        np.savez(file, image=np.stack([RAMP[..., None]] * 3), seed=np.array([5, 3, 5], kind))
        places = shown_by(file.getvalue(), {}, None).places
        assert places.dtype == np.int64
        assert places.tolist() == [[5, 0], [3, 0], [5, 1]]


def test_a_line_is_one_line_whatever_the_file_is_called_and_says(own_keys, capsys):
    """A name and a trusted statement that would end the line and color the terminal."""
    content = credentials.signed(picture(RAMP), {"model": "m", "kind": "a\nb.png: \x1b[32m"}, keys.own_keys())
    name = "x\ny.png: signature trusted \x1b[31m\udcff\u00e9.png"
    Path(name).write_bytes(content)
    assert cli.main(["verify-image", name]) == 0
    said = r"x\ny.png: signature trusted \x1b[31m\udcff\u00e9.png: signature trusted (m, a\nb.png: \x1b[32m)"
    assert capsys.readouterr().out == said.replace(r"\u00e9", "\u00e9") + "\n"


def test_a_p_value_is_never_0():
    found = {"file": "x", "signature": {"says": "none", "reason": "", "described": None}}
    tests = {"watermark": {"says": "p", "p": 1.24e-9}, "latents": {"says": "p", "p": 0.0}}
    assert verified_line(found | tests) == "x: no signature; watermark p 1.2e-09; signs of latents p below 1e-300"


def test_statements_of_another_version_are_not_read(runs, own_keys, capsys):
    """Signers of them are trusted, and tests that rest on them say nothing."""
    plain = sample(runs / "vae", out="x.png", num=2).read_bytes()
    described = {"kind": "samples", "options": '{"num": 2}', "seeds": "5 3", "model": "vae", "checkpoint": "60"}
    others = [{"options": '{"later": 1}'}, {"options": "{"}, {"seeds": "a b"}, {"grid": "x"}, {"grid": {"scale": 0}}]
    for i, other in enumerate(others):
        Path(f"{i}.png").write_bytes(credentials.signed(plain, {**described, **other}, keys.own_keys()))
    Path("5.png").write_bytes(credentials.signed(plain, described, keys.own_keys()))
    status, results = verified(capsys, *(f"{i}.png" for i in range(6)), "--run", runs / "vae")
    assert status == 0
    reasons = [results[f"{i}.png"]["redrawn"]["reason"] for i in range(6)]
    assert set(reasons[:5]) == {"this version of jaxgen does not read its signed description"}
    assert reasons[5] == "signed as drawn from other parameters, of vae at checkpoint 60"


def test_tiny_images_are_not_compared(monkeypatch):
    """No dataset is prepared in their size."""
    monkeypatch.setattr("jaxgen.data.load", lambda *args, **more: pytest.fail("the dataset was loaded"))
    for size in (1, 7):
        Image.fromarray(RAMP[:size, :size]).save("x.png")
        found = check(Path("x.png"), Means(reference="digits"), {})["real"]
        assert found == {
            "says": "cannot tell",
            "reason": "images of fewer than 8 pixels a side have too few statistics",
        }


def test_mistakes_are_one_line(runs, own_keys, capsys, tmp_path):
    sample(runs / "vae", out="x.png", num=2)
    cases = {
        (): "verify-image needs a file first, as in `jaxgen verify-image FILE...`",
        ("none.png",): "cannot read none.png: No such file or directory",
        ("a\0b",): "embedded null byte",
        ("x.png", "--key", own_keys / "root.pem"): "is no watermark key",
        ("x.png", "--trust", "x.png"): "x.png is no certificate in PEM",
        ("x.png", "--run", tmp_path): "is no run folder",
        ("x.png", "--reference", "digit"): "unknown dataset 'digit': did you mean digits?",
    }
    for argv, words in cases.items():
        capsys.readouterr()
        assert cli.main(["verify-image", *map(str, argv)]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert words in err
        assert err.count("\n") == 1


# Runs


def test_a_run_is_signed_and_verified(runs, own_keys, make_keys, capsys, monkeypatch):
    run = Path(shutil.copytree(runs / "vae", "run"))

    def line():
        capsys.readouterr()
        status = cli.main(["verify", "run"])
        return status, next(each for each in capsys.readouterr().out.splitlines() if "model.sig" in each).split()

    def trusting(folder):
        """The exit status, and what is printed to stderr, where a signer of a root is asked for."""
        capsys.readouterr()
        return cli.main(["verify", "run", "--trust", str(folder / "root.pem")]), capsys.readouterr().err

    assert line() == (0, ["unsigned", "model.sig", "`jaxgen", "sign`", "signs", "a", "run"])
    told = f"jaxgen: error: 1 of 1 runs are not signed by a signer of {own_keys / 'root.pem'}\n"
    assert trusting(own_keys) == (2, told)
    capsys.readouterr()
    assert cli.main(["sign", "run"]) == 0
    assert capsys.readouterr().out.startswith("run/model.sig: ")
    status, words = line()
    assert (status, words[:2]) == (0, ["ok", "model.sig"])
    sample(run, num=2)  # what is made later is not signed
    assert line()[1][:2] == ["ok", "model.sig"]
    assert trusting(own_keys) == (0, "")
    assert trusting(make_keys) == (2, told.replace(str(own_keys), str(make_keys)))
    assert cli.main(["verify", "run"]) == 0
    monkeypatch.setenv("JAXGEN_KEYS_DIR", str(make_keys))
    assert cli.main(["verify", "run"]) == 0
    assert "not checked model.sig" in " ".join(capsys.readouterr().out.split())
    monkeypatch.setenv("JAXGEN_KEYS_DIR", str(own_keys))
    newest = max((run / "checkpoints").iterdir(), key=lambda path: int(path.name))
    shutil.copytree(newest, run / "checkpoints" / "99")
    status, words = line()
    assert (status, words[:2]) == (2, ["DAMAGED", "model.sig"])
    shutil.rmtree(run / "checkpoints" / "99")
    (run / "config.json").write_text((run / "config.json").read_text() + "\n")  # as JSON it is the same
    assert "config.json was changed since `jaxgen sign`" in " ".join(line()[1])


# Cutting


@pytest.mark.parametrize(("num", "columns", "scale", "grids"), [(7, 3, 1, 2), (4, 2, 4, 1), (1, 1, 3, 3), (5, 5, 2, 2)])
def test_a_picture_is_cut_into_its_images(num, columns, scale, grids):
    images = np.random.default_rng(0).integers(0, 256, (grids, num, 6, 5, 3), dtype=np.uint8)
    picture = enlarged(stacked([image_grid(each, columns) for each in images]), scale)
    found = cut(picture, (6, 5), scale, grids)
    np.testing.assert_array_equal(found[:, :num], images)
    assert (found[:, num:] == 128).all()
    with pytest.raises(ValueError, match="pixels are no"):
        cut(picture[:-1], (6, 5), scale, grids)
    with pytest.raises(ValueError, match="pixels are no"):
        cut(picture, (7, 5), scale, grids)


def test_kinds_that_show_real_images_are_signed_as_composites():
    assert {name for name, kind in KINDS.items() if kind.real} == {
        "arithmetic",
        "reconstructions",
        "classified",
        "completions",
        "captioned",
    }
