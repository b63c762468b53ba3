"""Commands that score: `evaluate`, its `metrics`, and `extractor`."""

from pathlib import Path
from typing import Annotated

from jaxgen.cli.commands.common import positional, print_scores
from jaxgen.cli.parsing import parse
from jaxgen.errors import UserError


def evaluate_command(argv: list[str]) -> None:
    """Score a run, or images of any other system, beside real images.

    jaxgen evaluate RUN                                scores a run, and the same model untrained
    jaxgen evaluate --images FOLDER --dataset NAME     scores image files, a zip of them, or an npz file

    Prints the table and writes it as JSON: into the run folder, or beside the images.
    """
    if any(word.partition("=")[0] == "--images" for word in argv):
        return _evaluate_images(["--help"] if {"-h", "--help"} & set(argv) else argv)
    path, rest = positional(argv, "evaluate", "a run folder", "RUN")

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

        results = evaluate(path, scoring, checkpoint, out=out, show=lambda results: print_scores(results, all))
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
        results = evaluate(images, given.pop("dataset"), scoring, out=out, show=print_scores, **given)
        print(f"{images}: {results['rows'][-1]['sampling']}")
        print(results["path"])

    parse(evaluate_images, argv, "jaxgen evaluate")


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
    action, rest = positional(argv, "extractor", "an action", "convert", extractor_command)
    if action != "convert":
        raise UserError(f"unknown action {action!r} of `jaxgen extractor`: there is convert")
    source, rest = positional(rest, "extractor convert", "a file", "FILE")

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
