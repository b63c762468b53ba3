"""Commands that train: `train`, `compare`; and the list of models."""

from pathlib import Path
from typing import Annotated

from jaxgen.cli.commands.common import positional, print_digests, print_scores
from jaxgen.cli.parsing import parse
from jaxgen.errors import UserError

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
    model, rest = positional(argv, "train", "a model", "MODEL", train_command)
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
        print_digests(done)

    train_.__doc__ = TRAIN.format(recipes=models.recipes(model))
    parse(train_, rest, f"jaxgen train {model}")


def compare_command(argv: list[str]) -> None:
    """Train and score every model of an experiment, and write the page.

    EXPERIMENT is a Python file that declares `experiment`, or the name of one that comes with jaxgen.
    """
    experiment, rest = positional(argv, "compare", "an experiment", "EXPERIMENT")

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
            print_scores(table, all)
        print(results["report"])

    parse(compare_, rest, "jaxgen compare EXPERIMENT")
