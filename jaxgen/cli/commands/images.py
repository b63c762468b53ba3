"""Commands that draw and check images: `sample`, `explore`, `verify-image`."""

import itertools
from json import dumps
from pathlib import Path
from typing import Any, Literal

from jaxgen.cli.commands.common import positional, use_cpu
from jaxgen.cli.parsing import parse


def sample_command(argv: list[str]) -> None:
    """Draw samples, interpolations and other pictures of a run: PNG, npz, GIF, WebP.

    The picture has all seeds, one below the other.
    """
    path, rest = positional(argv, "sample", "a run folder", "RUN")

    def sample_(
        kind: Literal[
            "samples",
            "interpolation",
            "traversal",
            "arithmetic",
            "reconstructions",
            "animation",
            "manifold",
            "classified",
            "attribute",
            "codes",
            "completions",
            "captions",
            "captioned",
        ] = "samples",
        num: int | None = None,
        steps: int | None = None,
        dims: tuple[int, ...] | None = None,
        around: int | None = None,
        groups: tuple[str, ...] | None = None,
        rejection: int | None = None,
        caption: tuple[str, ...] | None = None,
        captions: str | None = None,
        watermark: float | None = None,
        keyed: bool = False,
        sign: bool = False,
        checkpoint: str = "newest",
        out: str | None = None,
    ) -> None:
        """Draw samples, interpolations and other pictures of a run: PNG, npz, GIF, WebP.

        Args:
            kind: samples; interpolation: paths between two draws of the prior; traversal: latent dimensions varied one
                by one; arithmetic: codes of classes A - B + C; reconstructions: below the test images; animation: the
                training's sample grids, step by step; manifold: the plane of two latents; classified: test images that
                a classifier gets right and wrong; attribute: codes of images of B moved along the mean code of A - B;
                codes: those that a model infers, varied one by one; completions: of the upper half of test images;
                captions: from one caption to another, with the same noise; captioned: test images above the captions
                that the model writes
            num: per seed: samples (64; equally many per class or caption if the model is given them), paths (8), latent
                dimensions (8), images of a class (8), test images (32; 16 each of classified, 16 of captioned), rows of
                each inferred code (one per category)
            steps: images along a path or of a latent dimension (9), along a side of the plane (20); completions of an
                image (9)
            dims: the latent dimensions of a traversal; those that vary most over the test images if not given
            around: the test image whose code a traversal varies; if not given, the prior's mean, or a draw from it if
                the model does not encode
            groups: the three classes of arithmetic, the two of attribute
            rejection: of a model given labels, draws per sample, of which the one is kept that the dataset's judge is
                surest of
            caption: what samples are to show, for a model given captions, such as 'a red circle' 'a blue square';
                those of test images if not given; the two of captions
            captions: a text file of captions, one a line
            watermark: mark samples in their pixels by your key, at this peak signal-to-noise ratio in dB, such as 38
            keyed: mark samples by the signs of their latents, which your key sets; the images are as likely as others
            sign: sign the file (PNG, npz, GIF, WebP) by your key, with what it was drawn from
            checkpoint: newest, a step, or best (each seed's own, by the run's keep_best)
            out: the file: .png, .npz (arrays), for paths also .gif and .webp, for the animation only these two; for
                samples also FOLDER/, a PNG file per image in a folder per class; RUN/KIND.png or RUN/animation.gif if
                not given
        """
        from jaxgen.pictures import sample
        from jaxgen.training.compiled import keep_compiled

        keep_compiled()

        picture: dict[str, Any] = {"num": num, "steps": steps, "dims": dims, "around": around, "groups": groups}
        picture |= {"rejection": rejection, "caption": caption, "captions": captions}
        picture |= {"watermark": watermark, "keyed": keyed, "sign": sign}
        print(sample(path, kind, checkpoint=checkpoint, out=out, progress=True, **picture))

    parse(sample_, rest, "jaxgen sample RUN")


def explore_command(argv: list[str]) -> None:
    """Write a page in which a run's latents, classes and captions can be changed.

    It is one HTML file that runs the model itself, without a server or a network.
    """
    path, rest = positional(argv, "explore", "a run folder", "RUN")

    def explore_(checkpoint: str = "newest", out: Path | None = None) -> None:
        """Write a page in which a run's latents, classes and captions can be changed.

        It is one HTML file of up to 3 MB that runs the decoder of each seed itself, without a server or a network. If
        a page cannot run the model, it shows a walk through images computed beforehand.

        Args:
            checkpoint: newest, a step, or best (each seed's own, by the run's keep_best)
            out: the .html file; RUN/explore.html if not given
        """
        use_cpu()
        from jaxgen.portable.explore import explore
        from jaxgen.training.compiled import keep_compiled

        keep_compiled()

        file, words = explore(path, checkpoint=checkpoint, out=out)
        print(words)
        print(file)

    parse(explore_, rest, "jaxgen explore RUN")


def verify_image_command(argv: list[str]) -> int:
    """Verify image files: signature, watermark, and whether a run draws them.

    Prints a line per file. Exit status 0 if every file is signed by a trusted signer, 2 if one was changed, else 3.
    """
    files = list(itertools.takewhile(lambda word: not word.startswith("-"), argv))
    _, rest = positional(argv, "verify-image", "a file", "FILE...")
    rest = argv[len(files) :] if files else rest

    def verify_image(
        trust: Path | None = None,
        key: Path | None = None,
        run: Path | None = None,
        checkpoint: str = "newest",
        reference: str | None = None,
        json: bool = False,
    ) -> int:
        """Verify image files: signature, watermark, and whether a run draws them.

        Prints a line per file. Exit status 0 if every file is signed by a trusted signer, 2 if one was changed since
        it was signed, 3 if nothing is known of one. The other tests give p-values and do not change the exit status.

        Args:
            trust: the root.pem of the keys that `jaxgen sample --sign` used; your own keys' if not given
            key: the watermark.key that `jaxgen sample` marked with, for the tests of marks
            run: a run folder, for the tests whether it draws the images, and of the marks in its latents
            checkpoint: the run's newest, a step, or best (each seed's own, by the run's keep_best)
            reference: a dataset, for the test whether images are unlike its own
            json: print one JSON object per file
        """
        from jaxgen.cli.lines import verified_line
        from jaxgen.data import info
        from jaxgen.pictures.checking import Means, check, status
        from jaxgen.provenance.keys import trusted_root, watermark_key
        from jaxgen.training import open_run
        from jaxgen.training.compiled import keep_compiled

        keep_compiled()

        if reference:
            info(reference)
        means = Means(
            trusted_root(trust),
            watermark_key(key) if key else None,
            open_run(run, checkpoint) if run else None,
            reference,
        )
        results, detectors = [], {}
        for file in files:
            results.append(check(Path(file), means, detectors))
            print(dumps(results[-1]) if json else verified_line(results[-1]), flush=True)
        return status(results)

    return parse(verify_image, rest, "jaxgen verify-image FILE...")
