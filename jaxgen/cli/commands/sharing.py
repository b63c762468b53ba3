"""Commands that share runs: `card`, `export`, `import`."""

from pathlib import Path

from jaxgen.cli.commands.common import positional, print_digests, use_cpu
from jaxgen.cli.parsing import parse


def card_command(argv: list[str]) -> None:
    """Write a run's model card: use, data, training, scores, verification.

    It is a Markdown file with the YAML header of the Hugging Face hub.
    """
    path, rest = positional(argv, "card", "a run folder", "RUN")

    def card(comparison: Path | None = None, out: Path | None = None) -> None:
        """Write a run's model card: use, data, training, scores, verification.

        It is a Markdown file with the YAML header of the Hugging Face hub. Scores are those of RUN/evaluation.json, if
        `jaxgen evaluate` wrote one, or of a comparison.

        Args:
            comparison: results.json of a comparison that trained the run, for its scores
            out: the file; RUN/README.md if not given
        """
        use_cpu()
        from jaxgen.report.card import write_card

        print(write_card(path, comparison, out))

    parse(card, rest, "jaxgen card RUN")


def export_command(argv: list[str]) -> None:
    """Export a run: weights (safetensors), programs without jaxgen, ONNX, a folder for the hub.

    Each format is read back and compared to the run.
    """
    path, rest = positional(argv, "export", "a run folder", "RUN")

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
        use_cpu()
        from jaxgen.portable.exporting import export
        from jaxgen.training.compiled import keep_compiled

        keep_compiled()
        print(export(path, to, checkpoint=checkpoint, out=out))

    parse(export_, rest, "jaxgen export RUN")


def import_command(argv: list[str]) -> None:
    """Make a run of an exported folder, which samples and digests as the original.

    The last lines printed are those of `jaxgen digest`.
    """
    path, rest = positional(argv, "import", "an exported folder", "FOLDER")

    def import_(data_from: Path | None = None, out: Path | None = None) -> None:
        """Make a run of an exported folder, which samples and digests as the original.

        Every file is checked against the sha256 that was exported. If the folder has a model.py, it is run: read it
        first. The last lines printed are those of `jaxgen digest`.

        Args:
            data_from: where the run's data are here, if they are files of a user's own; samples do not need them
            out: the run folder, which must not exist; runs/NAME, by the exported folder's name, if not given
        """
        use_cpu()
        from jaxgen.portable.importing import import_run
        from jaxgen.training import open_run

        run = import_run(path, out, data_from)
        print(run)
        print_digests(open_run(run))

    parse(import_, rest, "jaxgen import FOLDER")
