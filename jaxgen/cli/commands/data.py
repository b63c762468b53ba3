"""The command `data`, and its actions."""

import re
from pathlib import Path
from typing import Annotated, Literal

from jaxgen.cli.commands.common import positional
from jaxgen.cli.parsing import parse
from jaxgen.errors import UserError


def data_command(argv: list[str]) -> None:
    """Datasets: list them, prepare one, or show its examples.

    jaxgen data list                            list names, sizes, licenses and what is prepared
    jaxgen data prepare NAME [--from FOLDER]    download a dataset, or use files already downloaded
    jaxgen data show NAME [--from FOLDER]       write a contact sheet with labels and captions
    """
    action, rest = positional(argv, "data", "an action", "list", data_command)
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
