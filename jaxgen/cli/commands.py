"""The commands: one thin function for each, which imports the heavy packages it needs."""

import inspect
import itertools
import os
import re
import sys
from collections.abc import Callable
from json import dumps
from pathlib import Path
from typing import Annotated, Any, Literal

from jaxgen.cli.parsing import parse
from jaxgen.errors import UserError

NAME_FIRST = "{command} needs {what} first, as in `jaxgen {command} {example}`"


def _first(argv: list[str], command: str, what: str, example: str) -> tuple[str, list[str]]:
    """Returns (the positional argument, the rest); for --help without one, prints the command's docstring instead."""
    if argv and argv[0] in ("-h", "--help"):
        if command not in ("train", "data", "extractor"):  # their options depend on the argument
            return example, argv
        print(f"usage: jaxgen {command} {example} [OPTIONS]\n\n{inspect.getdoc(COMMANDS[command]) or ''}")
        raise SystemExit(0)
    if not argv or argv[0].startswith("-"):
        raise UserError(NAME_FIRST.format(command=command, what=what, example=example))
    return argv[0], argv[1:]


def _use_cpu() -> None:
    """Chooses the CPU for a command that only reads, as a run may be using the accelerator."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ.pop("JAX_PLATFORM_NAME", None)


TRAIN = """Train a model for several seeds at once, into a run folder.

The last lines printed are `digest SEED HEX`, one per seed: the sha256 of the final parameters.
{recipes}"""


def models_command(argv: list[str]) -> None:
    """List the models: paper, needs and abilities."""

    def models_() -> None:
        """List the models: paper, needs and abilities."""
        from rich.console import Console

        from jaxgen.cli.tables import models_table

        console = Console()
        console.print(models_table(console))

    parse(models_, argv, "jaxgen models")


def train_command(argv: list[str]) -> None:
    """Train a model for several seeds at once, into a run folder.

    MODEL is a name from `jaxgen models`, or the path of your own Python file with `Config` and
    `make`. `jaxgen train MODEL --help` lists the fields of its Config and the settings of every run.
    """
    model, rest = _first(argv, "train", "a model", "MODEL")
    from jaxgen.training.deterministic import prepare
    from jaxgen.training.processes import join

    if not {"-h", "--help"} & set(rest):  # before the model file, which may start JAX
        for option, before in (("--distributed", join), ("--deterministic", prepare)):
            if option in rest:
                before()
    import dataclasses

    import tyro

    from jaxgen import models
    from jaxgen.config import annotations
    from jaxgen.data.options import Options
    from jaxgen.training.settings import Records, Settings, Training

    @dataclasses.dataclass(frozen=True)
    class Run(Records):
        """Settings of the run itself."""

        out: Path | None = None  # the run folder, which must not exist; runs/MODEL-DATASET if not given
        resume: bool = False  # continue the run in that folder from its newest checkpoint
        deterministic: bool = False  # make the same command give the same bits; two short runs test this first
        distributed: bool = False  # train over the processes that Slurm, Open MPI, Kubernetes or a TPU pod started
        wandb: str | None = None  # a Weights & Biases project that receives metrics and sample grids, one run per seed

    config_class = models.load(model).Config
    others = {field.name for part in (Options, Training, Run) for field in dataclasses.fields(part)}
    if both := set(annotations(config_class, model)) & others:
        raise UserError(f"{model}: Config's field {both.pop()} has the name of a setting of every run")

    def train_(
        model_: Annotated[config_class, tyro.conf.arg(help=models.heading(model), name="model")],  # type: ignore[valid-type]
        data: Annotated[Options, tyro.conf.arg(help="The dataset and how its images are prepared.")],
        training: Annotated[Training, tyro.conf.arg(help="The training.")],
        run: Annotated[Run, tyro.conf.arg(help="The run folder and what is written into it.")],
    ) -> None:
        from jaxgen.training import train
        from jaxgen.training.compiled import keep_compiled

        keep_compiled()
        records = {field.name: getattr(run, field.name) for field in dataclasses.fields(Records)}
        settings = Settings(**vars(data), **vars(training), **records)
        done = train(
            model,
            model_,
            settings,
            out=run.out,
            resume=run.resume,
            deterministic=run.deterministic,
            wandb=run.wandb,
        )
        print(f"{done.path}: {done.step} steps")
        _print_digests(done)

    train_.__doc__ = TRAIN.format(recipes=models.recipes(model))
    parse(train_, rest, f"jaxgen train {model}")


def runs_command(argv: list[str]) -> None:
    """List the runs below a folder: running, done, stopped, diverged or damaged."""
    path, rest = (argv[0], argv[1:]) if argv and not argv[0].startswith("-") else ("runs", argv)

    def runs_() -> None:
        """List the runs below a folder: running, done, stopped, diverged or damaged.

        jaxgen runs [FOLDER]     FOLDER is runs if not given

        A run is damaged if a file or a checkpoint's record cannot be read; `jaxgen verify` checks everything.
        If stdout is no terminal, a run is a line of fields separated by tabs: folder, state, step, number of steps that
        it takes, model, data, seeds, seconds, note.
        """
        from rich.console import Console

        _use_cpu()
        from jaxgen.cli.tables import runs_lines, runs_table
        from jaxgen.training.status import runs_below, standing

        found = runs_below(path)
        if not found:
            print(f"no run below {path}", file=sys.stderr)  # stdout has runs only
            return
        console, standings = Console(), [standing(run) for run in found]
        if console.is_terminal:
            console.print(runs_table(standings, console), crop=False)  # a name is whole
        else:
            print(*runs_lines(standings), sep="\n")

    parse(runs_, rest, "jaxgen runs [FOLDER]")


def verify_command(argv: list[str]) -> None:
    """Verify the files of a run: checkpoints, rows, pictures, data, digests, signature.

    Prints a line per part of every run below the folder. Exit status 2 if a part differs from what was written.
    """
    path, rest = _first(argv, "verify", "a run folder", "RUN")

    def verify(trust: Path | None = None) -> None:
        """Verify the files of a run: checkpoints, rows, pictures, data, digests, signature.

        RUN is a run folder, or a folder of runs. Prints a line per part and changes nothing. Exit status 2 if a part
        differs from what was written or, with --trust, if a run is not signed by a signer of that root.

        Args:
            trust: the root.pem of the keys that `jaxgen sign` used; your own keys' if not given
        """
        _use_cpu()
        from jaxgen.provenance.keys import trusted_root
        from jaxgen.provenance.signature import FILE
        from jaxgen.training.status import DAMAGED, OK, runs_below, verified

        found, signed, bad, count = runs_below(path), 0, 0, 0
        if not found:
            raise UserError(f"no run below {path}")
        root = trusted_root(trust)
        for run in found:
            print(run)
            for what, words, state in verified(run, root):
                print(f"  {state:11} {what:20} {words}", flush=True)
                bad, count = bad + (state == DAMAGED), count + 1
                signed += (what, state) == (FILE, OK)
        if bad:
            raise UserError(f"{bad} of {count} parts of {path} are not as they were written")
        if trust and signed < len(found):
            raise UserError(f"{len(found) - signed} of {len(found)} runs are not signed by a signer of {trust}")

    parse(verify, rest, "jaxgen verify RUN")


def sign_command(argv: list[str]) -> None:
    """Sign a run: its config, checkpoints and rows, by your own key.

    `jaxgen verify RUN` then checks the signature too.
    """
    path, rest = _first(argv, "sign", "a run folder", "RUN")

    def sign() -> None:
        """Sign a run: its config, checkpoints and rows, by your own key.

        Writes RUN/model.sig, a signature as OpenSSF Model Signing defines it, which `jaxgen verify RUN` checks.
        `jaxgen keys make` makes the key. A run that was resumed must be signed again.
        """
        _use_cpu()
        from jaxgen.provenance.keys import own_keys
        from jaxgen.training.signing import sign

        print(sign(Path(path), own_keys()))

    parse(sign, rest, "jaxgen sign RUN")


def keys_command(argv: list[str]) -> None:
    """Make the keys with which you sign runs and pictures.

    jaxgen keys make
    """
    action, rest = _first(argv, "keys", "an action", "make")
    if action != "make":
        raise UserError(f"unknown action {action!r} of `jaxgen keys`: there is make")

    def keys_make() -> None:
        """Make the keys with which you sign runs and pictures.

        A root, a signer and a watermark's key are written into JAXGEN_KEYS_DIR, or ~/.config/jaxgen/keys if it is not
        set, for you alone to read.
        Publish root.pem: who trusts it trusts what you sign. It proves who holds the keys, not who that is.
        """
        from jaxgen.provenance.keys import keys_dir, make

        print(*make(keys_dir()), sep="\n")

    parse(keys_make, rest, "jaxgen keys make")


def digest_command(argv: list[str]) -> None:
    """Print the sha256 of the parameters of every seed of a run.

    Prints one line per seed, `digest SEED HEX`.
    """
    path, rest = _first(argv, "digest", "a run folder", "RUN")

    def digest(checkpoint: str = "newest") -> None:
        """Print the sha256 of the parameters of every seed of a run.

        Prints one line per seed, `digest SEED HEX`.

        Args:
            checkpoint: newest, a step, or best (each seed's own, by the run's keep_best)
        """
        _use_cpu()
        from jaxgen.training import open_run

        _print_digests(open_run(path, checkpoint))

    parse(digest, rest, "jaxgen digest RUN")


def _print_digests(run) -> None:
    for seed, digest in run.digests().items():
        print(f"digest {seed} {digest}")


def sample_command(argv: list[str]) -> None:
    """Draw samples, interpolations and other pictures of a run: PNG, npz, GIF, WebP.

    The picture has all seeds, one below the other.
    """
    path, rest = _first(argv, "sample", "a run folder", "RUN")

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
    path, rest = _first(argv, "explore", "a run folder", "RUN")

    def explore_(checkpoint: str = "newest", out: Path | None = None) -> None:
        """Write a page in which a run's latents, classes and captions can be changed.

        It is one HTML file of up to 3 MB that runs the decoder of each seed itself, without a server or a network. If
        a page cannot run the model, it shows a walk through images computed beforehand.

        Args:
            checkpoint: newest, a step, or best (each seed's own, by the run's keep_best)
            out: the .html file; RUN/explore.html if not given
        """
        _use_cpu()
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
    _, rest = _first(argv, "verify-image", "a file", "FILE...")
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


def evaluate_command(argv: list[str]) -> None:
    """Score a run, or images of any other system, beside real images.

    jaxgen evaluate RUN                                scores a run, and the same model untrained
    jaxgen evaluate --images FOLDER --dataset NAME     scores image files, a zip of them, or an npz file

    Prints the table and writes it as JSON: into the run folder, or beside the images.
    """
    if any(word.partition("=")[0] == "--images" for word in argv):
        return _evaluate_images(["--help"] if {"-h", "--help"} & set(argv) else argv)
    path, rest = _first(argv, "evaluate", "a run folder", "RUN")

    import tyro

    from jaxgen.evaluation.options import Scoring

    def evaluate_(
        scoring: Annotated[Scoring, tyro.conf.arg(name="")],
        checkpoint: str = "newest",
        all: bool = False,
        out: Path | None = None,
    ) -> None:
        """Score a run, or images of any other system, beside real images.

        Writes evaluation.json into the run folder and prints the table. `jaxgen metrics` lists the metrics;
        `jaxgen evaluate --images FOLDER --dataset NAME` scores images that another system made, and
        `jaxgen evaluate --images FOLDER --help` lists its options.

        Args:
            checkpoint: newest, a step, or best (each seed's own, by the run's keep_best)
            all: print the untrained model's row and every seed's value too
            out: the JSON file; RUN/evaluation.json if not given
        """
        from jaxgen.evaluation import evaluate
        from jaxgen.training.compiled import keep_compiled

        keep_compiled()

        results = evaluate(path, scoring, checkpoint, out=out, show=lambda results: _print_scores(results, all))
        print(results["path"])

    return parse(evaluate_, rest, "jaxgen evaluate RUN")


def _evaluate_images(argv: list[str]) -> None:
    import tyro

    from jaxgen.data.options import Options
    from jaxgen.evaluation.options import Scoring

    def evaluate_images(
        images: Path,
        scoring: Annotated[Scoring, tyro.conf.arg(name="")],
        options: Annotated[Options, tyro.conf.arg(name="")],
        out: Path | None = None,
    ) -> None:
        """Score images of any other system beside real images.

        Args:
            images: a folder or zip file of PNG, JPEG, WebP or TIFF files (subfolders named or numbered like the classes
                give labels), or an npz file with `image` [num, H, W, C], uint8 or floats from 0 or -1 to 1, and
                optionally `label`
            out: the JSON file; IMAGES.evaluation.json if not given
        """
        from jaxgen.evaluation import evaluate_images as evaluate
        from jaxgen.training.compiled import keep_compiled

        keep_compiled()

        given = vars(options) | {}
        results = evaluate(images, given.pop("dataset"), scoring, out=out, show=_print_scores, **given)
        print(f"{images}: {results['rows'][-1]['sampling']}")
        print(results["path"])

    parse(evaluate_images, argv, "jaxgen evaluate")


def _print_scores(results: dict[str, Any], everything: bool = False) -> None:
    from rich.console import Console

    from jaxgen.cli.tables import classifiers_told, compact_tables, scores_tables

    console = Console()
    console.print(classifiers_told(results), end="")
    for table in (scores_tables if everything else compact_tables)(results, console):
        console.print(table)


def metrics_command(argv: list[str]) -> None:
    """List the metrics that `jaxgen evaluate --metrics` takes."""

    def metrics_() -> None:
        """List the metrics that `jaxgen evaluate --metrics` takes."""
        from rich.console import Console

        from jaxgen.cli.tables import metrics_table

        console = Console()
        console.print(metrics_table(console))

    parse(metrics_, argv, "jaxgen metrics")


def extractor_command(argv: list[str]) -> None:
    """Convert the Inception-v3 weights that define FID, for `--extractor`.

    jaxgen extractor convert FILE --out inception.safetensors

    FILE is pt_inception-2015-12-05-6726825d.pth, which pytorch-fid and torch-fidelity download. PyTorch is not needed.
    """
    action, rest = _first(argv, "extractor", "an action", "convert")
    if action != "convert":
        raise UserError(f"unknown action {action!r} of `jaxgen extractor`: there is convert")
    source, rest = _first(rest, "extractor convert", "a file", "FILE")

    def extractor_convert(out: Path = Path("inception.safetensors")) -> None:
        """Convert the Inception-v3 weights that define FID, for `--extractor`.

        FILE is pt_inception-2015-12-05-6726825d.pth, which pytorch-fid and torch-fidelity download.

        Args:
            out: the file to write
        """
        from jaxgen.evaluation.inception import convert

        convert(source, out)
        print(out)

    parse(extractor_convert, rest, "jaxgen extractor convert FILE")


def compare_command(argv: list[str]) -> None:
    """Train and score every model of an experiment, and write the page.

    EXPERIMENT is a Python file that declares `experiment`, or the name of one that comes with jaxgen.
    """
    experiment, rest = _first(argv, "compare", "an experiment", "EXPERIMENT")

    def compare_(
        out: Path | None = None,
        steps: int | None = None,
        seeds: tuple[int, ...] | None = None,
        sign: bool = False,
        all: bool = False,
    ) -> None:
        """Train and score every model of an experiment, and write the page.

        A comparison begun in the same folder is resumed.

        Args:
            out: the folder; runs/NAME if not given
            steps: training steps per seed, instead of the experiment's
            seeds: training seeds, instead of the experiment's
            sign: sign every picture of the page by your key; one saved from the page stays signed
            all: print the untrained models' rows and every seed's value too
        """
        from jaxgen.comparison import compare
        from jaxgen.training.compiled import keep_compiled

        keep_compiled()

        results = compare(experiment, out=out, steps=steps, seeds=seeds, sign=sign)
        for verdict in results["verdicts"]:
            print(verdict["sentence"])
        for table in results["tables"]:
            if len(results["tables"]) > 1:
                print(table["label"])
            _print_scores(table, all)
        print(results["report"])

    parse(compare_, rest, "jaxgen compare EXPERIMENT")


def card_command(argv: list[str]) -> None:
    """Write a run's model card: use, data, training, scores, verification.

    It is a Markdown file with the YAML header of the Hugging Face hub.
    """
    path, rest = _first(argv, "card", "a run folder", "RUN")

    def card(comparison: Path | None = None, out: Path | None = None) -> None:
        """Write a run's model card: use, data, training, scores, verification.

        It is a Markdown file with the YAML header of the Hugging Face hub. Scores are those of RUN/evaluation.json, if
        `jaxgen evaluate` wrote one, or of a comparison.

        Args:
            comparison: results.json of a comparison that trained the run, for its scores
            out: the file; RUN/README.md if not given
        """
        _use_cpu()
        from jaxgen.report.card import write_card

        print(write_card(path, comparison, out))

    parse(card, rest, "jaxgen card RUN")


def export_command(argv: list[str]) -> None:
    """Export a run: weights (safetensors), programs without jaxgen, ONNX, a folder for the hub.

    Each format is read back and compared to the run.
    """
    path, rest = _first(argv, "export", "a run folder", "RUN")

    def export_(to: tuple[str, ...] = ("safetensors",), checkpoint: str = "newest", out: Path | None = None) -> None:
        """Export a run: weights (safetensors), programs without jaxgen, ONNX, a folder for the hub.

        Each format is read back and compared to the run before the folder appears. Nothing uses the network.

        Args:
            to: safetensors: weights, of which `jaxgen import` makes the run again; stablehlo: also samplers and
                decoders that need JAX but not jaxgen; onnx: decoders for any ONNX runtime; hub: the first two with a
                model card for the Hugging Face hub
            checkpoint: newest, a step, or best (each seed's own, by the run's keep_best)
            out: the folder; RUN-export if not given
        """
        _use_cpu()
        from jaxgen.portable.exporting import export
        from jaxgen.training.compiled import keep_compiled

        keep_compiled()
        print(export(path, to, checkpoint=checkpoint, out=out))

    parse(export_, rest, "jaxgen export RUN")


def import_command(argv: list[str]) -> None:
    """Make a run of an exported folder, which samples and digests as the original.

    The last lines printed are those of `jaxgen digest`.
    """
    path, rest = _first(argv, "import", "an exported folder", "FOLDER")

    def import_(data_from: Path | None = None, out: Path | None = None) -> None:
        """Make a run of an exported folder, which samples and digests as the original.

        Every file is checked against the sha256 that was exported. If the folder has a model.py, it is run: read it
        first. The last lines printed are those of `jaxgen digest`.

        Args:
            data_from: where the run's data are here, if they are files of a user's own; samples do not need them
            out: the run folder, which must not exist; runs/NAME, by the exported folder's name, if not given
        """
        _use_cpu()
        from jaxgen.portable.importing import import_run
        from jaxgen.training import open_run

        run = import_run(path, out, data_from)
        print(run)
        _print_digests(open_run(run))

    parse(import_, rest, "jaxgen import FOLDER")


def data_command(argv: list[str]) -> None:
    """Datasets: list them, prepare one, or show its examples.

    jaxgen data list                            list names, sizes, licenses and what is prepared
    jaxgen data prepare NAME [--from FOLDER]    download a dataset, or use files already downloaded
    jaxgen data show NAME [--from FOLDER]       write a contact sheet with labels and captions
    """
    action, rest = _first(argv, "data", "an action", "list")
    actions = {"list": _data_list, "prepare": _data_prepare, "show": _data_show}
    if action not in actions:
        raise UserError(f"unknown action {action!r} of `jaxgen data`: there are {', '.join(actions)}")
    actions[action](rest)


def _data_list(argv: list[str]) -> None:
    def data_list() -> None:
        """List the datasets: size, classes, license, and whether they are prepared."""
        from rich.console import Console

        from jaxgen.cli.tables import datasets_table

        console = Console()
        console.print(datasets_table(console))

    parse(data_list, argv, "jaxgen data list")


def _data_prepare(argv: list[str]) -> None:
    name, rest = _dataset(argv, "prepare")

    import tyro

    def data_prepare(folder: Annotated[Path | None, tyro.conf.arg(name="from")] = None) -> None:
        """Prepare a TFDS dataset, or nlvr, in the cache folder; the others are made on first use.

        Only this command needs TensorFlow, and only for TFDS's datasets; mnist, its kin and binarized_mnist do without.

        Args:
            folder: holds files already downloaded, gzipped or not, which are used instead of a download
        """
        from jaxgen import data

        print(data.prepare(name, folder))

    parse(data_prepare, rest, "jaxgen data prepare NAME")


def _data_show(argv: list[str]) -> None:
    name, rest = _dataset(argv, "show")
    if {word.partition("=")[0].replace("_", "-") for word in rest} & {"--dataset", "--data-from"}:
        raise UserError("data show takes the dataset's name, and --from FOLDER, in place of --dataset and --data-from")

    import dataclasses

    import tyro

    from jaxgen.data.options import Options

    @dataclasses.dataclass(frozen=True)
    class Shown(Options):
        """The options that a contact sheet depends on."""

        dataset: tyro.conf.Fixed[str] = name
        data_from: tyro.conf.Fixed[str | None] = None
        flip: tyro.conf.Fixed[bool] = False
        labels: tyro.conf.Fixed[int | None] = None
        captions: tyro.conf.Fixed[int | None] = None
        subset: tyro.conf.Fixed[int | None] = None
        pipeline: tyro.conf.Fixed[Literal["auto", "memory", "grain"]] = "auto"
        workers: tyro.conf.Fixed[int] = 0

    def data_show(
        options: Annotated[Shown, tyro.conf.arg(name=""), tyro.conf.SuppressFixed],
        folder: Annotated[Path | None, tyro.conf.arg(name="from")] = None,
        num: int = 40,
        split: Literal["train", "validation", "test"] = "train",
        out: Path | None = None,
    ) -> None:
        """Write a contact sheet: examples of a dataset, spread over its classes, with their labels and captions.

        Args:
            folder: the folder or file of yours that image_folder, array and their like read; data_from in `jaxgen
                train`
            num: number of examples
            split: the split that examples are from
            out: the PNG file; NAME.png if not given
        """
        from jaxgen import data
        from jaxgen.drawing import to_png
        from jaxgen.files import check_writable, write_new
        from jaxgen.pictures.contact_sheet import contact_sheet

        if num < 1:
            raise UserError(f"num must be at least 1, not {num}")
        path = out or Path(re.sub(r"\W+", "_", data.Options(name).shown) + ".png")
        if path.suffix.lower() != ".png":
            raise UserError(f"a contact sheet is written as .png, not as {path.name!r}")
        check_writable(path)
        given = vars(options) | {"data_from": folder and str(folder)}
        del given["dataset"]
        dataset = data.load(name, **given)
        write_new(path, to_png(contact_sheet(dataset, num, split)))
        print(dataset.note)
        print(path)

    parse(data_show, rest, "jaxgen data show NAME")


def _dataset(argv: list[str], action: str) -> tuple[str, list[str]]:
    """Returns (the name of a known dataset, the rest)."""
    from jaxgen import data

    if argv and argv[0] in ("-h", "--help"):
        argv = ["digits", *argv]
    if not argv or argv[0].startswith("-"):
        raise UserError(f"data {action} needs a dataset first, as in `jaxgen data {action} mnist`")
    data.info(argv[0])
    return argv[0], argv[1:]


COMMANDS: dict[str, Callable[[list[str]], int | None]] = {
    "models": models_command,
    "train": train_command,
    "runs": runs_command,
    "verify": verify_command,
    "sign": sign_command,
    "digest": digest_command,
    "sample": sample_command,
    "explore": explore_command,
    "verify-image": verify_image_command,
    "evaluate": evaluate_command,
    "metrics": metrics_command,
    "compare": compare_command,
    "card": card_command,
    "export": export_command,
    "import": import_command,
    "data": data_command,
    "extractor": extractor_command,
    "keys": keys_command,
}
