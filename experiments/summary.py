"""Stores the results of comparisons as small files, and writes the README's table of models from them.

    python -m experiments.summary runs/digits

The scores of each comparison's folder go into experiments/results/NAME.json: every seed's value of every row and
column, the verdicts, digests, versions and device; those of a checkout with changes are refused. Then the README's
table is written: one number for each model, the mean over the seeds of one experiment, beside the published one.
"""

import sys
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import tyro

from jaxgen.cli import fail
from jaxgen.cli.parsing import parse
from jaxgen.errors import UserError
from jaxgen.models import MODELS
from jaxgen.training.folder import read_json, write_json

from .kept import RESULTS, check_commit

README = Path(__file__).parents[1] / "README.md"
FIRST = (
    "| name | model | paper; section of the review | measured | published | how the protocols differ |\n"
    "|---|---|---|---|---|---|\n"
)


class Measured(NamedTuple):
    """Source and wording of a model's number in the README's table."""

    experiment: str  # name of a results file
    table: str  # label of the table in it
    arm: str  # row
    column: str
    words: str  # what is measured, with a placeholder for the mean over the seeds
    published: str  # comparable number with its source; {NAME} is the mean of row NAME in the same column
    protocols: str  # difference between the protocols


ROWS = {
    "classifier": Measured(
        "classifiers",
        "mnist",
        "lenet",
        "accuracy",
        "accuracy on MNIST {:.2%}",
        "99.05%: LeNet-5, LeCun et al. 1998, section III",
        "AdamW and cross-entropy, 3 passes instead of 20; 28x28 pixels, not padded to 32x32",
    ),
    "naive_bayes": Measured(
        "naive_bayes_mnist",
        "mnist",
        "bernoulli",
        "accuracy",
        "accuracy on MNIST {:.1%}",
        "none; equal to scikit-learn's BernoulliNB within 0.1%",
        "",
    ),
    "autoencoder": Measured(
        "autoencoder_pca",
        "mnist",
        "conv",
        "test_error",
        "squared error of an MNIST image from a code of 10 numbers {:.1f}",
        "none; PCA with 10 components has {pca:.1f}",
        "",
    ),
    "vae": Measured(
        "vae_mnist_nll",
        "mnist",
        "vae",
        "iwae_binary",
        "log p(x) of dynamically binarized MNIST at least {:.1f} nats",
        "-86.8: Burda et al. 2016, table 1 (VAE, one layer, k = 1)",
        "100 of 3,280 epochs; 1,000 of 10,000 test images; same nets, optimizer and 5,000 importance samples",
    ),
    "vaegan": Measured(
        "vaegan",
        "mnist",
        "vaegan",
        "fd",
        "FD-mnist {:.0f}",
        "none on MNIST; a VAE with the same latents has {vae:.0f}, real images {real against real:.1f}",
        "",
    ),
    "gan": Measured(
        "cgan_parzen",
        "mnist",
        "gan",
        "parzen",
        "Parzen log-likelihood of MNIST {:.0f} nats",
        "225 ± 2: Goodfellow et al. 2014, table 1",
        "a quarter of the width, 25 of 250 epochs; one of the three seeds collapsed (-501, the others 41 and 54)",
    ),
    "dcgan": Measured(
        "dcgan_mnist_1nn",
        "mnist",
        "cgan",
        "nearest_neighbor",
        "1-NN error of labeled samples on MNIST {:.2%}",
        "2.98%: Radford et al. 2016, table 3",
        "both by a conditional DCGAN (`cgan` here); a quarter of the width, 7.5 of 25 epochs, 10,000 of 50,000 samples",
    ),
    "cgan": Measured(
        "cgan_parzen",
        "mnist",
        "cgan",
        "parzen",
        "Parzen log-likelihood of MNIST {:.0f} nats",
        "132 ± 1.8: Mirza & Osindero 2014, table 1",
        "a quarter of the width, 25 of 250 epochs; one of the three seeds collapsed (-194, the others 85 and 135)",
    ),
    "infogan": Measured(
        "infogan_mnist",
        "mnist",
        "infogan",
        "code_error",
        "error of the categorical code as a classifier of MNIST {:.0%}",
        "5%: Chen et al. 2016, section 7.2",
        "a quarter of the width, 10 of 50 epochs; the information's weight is 0.1 instead of 1",
    ),
    "mggan": Measured(
        "mggan",
        "gaussians/grid",
        "mggan",
        "modes",
        "{:.1f} of 25 modes of a Gaussian grid",
        "none; a GAN with the same nets finds {base:.1f}",
        "",
    ),
    "pixelcnn": Measured(
        "autoregressive_mnist",
        "static",
        "pixelcnn",
        "log_prob_binary",
        "log p(x) of statically binarized MNIST {:.1f} nats",
        "-80.10: the gated PixelCNN of Gulrajani et al. 2017, table 1",
        "16 features, 12 layers; 72,000 images, 1.4 epochs",
    ),
    "pixelcnnpp": Measured(
        "autoregressive_digits",
        "digits",
        "pixelcnnpp",
        "log_prob_uint8",
        "log p(x) of 8x8 gray digits {:.1f} nats",
        "2.92 bits per dimension on CIFAR-10: Salimans et al. 2017, table 1",
        "not comparable: other images",
    ),
    "pixelrnn": Measured(
        "autoregressive_mnist",
        "static",
        "pixelrnn",
        "log_prob_binary",
        "log p(x) of statically binarized MNIST {:.1f} nats",
        "-79.20: the Diagonal BiLSTM of van den Oord et al. 2016, table 4",
        "two layers of seven; 72,000 images, 1.4 epochs",
    ),
    "meshvae": Measured(
        "meshvae",
        "bars",
        "rimd_8",
        "vertex_error",
        "vertex error of bars by RIMD, 8 latents, {:.2f}% of the diagonal",
        "none of these meshes; aligned vertices have {vertices_8:.2f}%, PCA on RIMD 1.81%, PCA on vertices 2.97%",
        "",
    ),
    "vqvae": Measured(
        "vqvae_mnist",
        "mnist",
        "vqvae",
        "bits_per_dimension",
        "at most {:.2f} bits per dimension of MNIST's gray levels",
        "4.67 on CIFAR-10, a bound: van den Oord et al. 2017, section 4.1; on MNIST a VAE of the same p(x|z) has at "
        "most {vae:.2f}",
        "not comparable: other images",
    ),
    "vqvae2": Measured(
        "vqvae_mnist",
        "mnist",
        "vqvae2",
        "bits_per_dimension",
        "at most {:.2f} bits per dimension of MNIST's gray levels",
        "none of the paper's images in this unit; a VAE of the same p(x|z) has at most {vae:.2f}, VQ-VAE {vqvae:.2f}",
        "",
    ),
    "transgan": Measured(
        "transgan_digits",
        "digits",
        "transgan",
        "fd",
        "FD-digits {:.1f}",
        "FID 9.26 on CIFAR-10: Jiang et al. 2021; a DCGAN trained as long has FD-digits {dcgan:.1f}",
        "not comparable: other images and features; 80 seconds a seed on a CPU",
    ),
    "transformer": Measured(
        "autoregressive_mnist",
        "static",
        "transformer",
        "log_prob_binary",
        "log p(x) of statically binarized MNIST {:.1f} nats",
        "2.90 bits per dimension on CIFAR-10: Parmar et al. 2018; on this MNIST a VAE has at least {vae:.1f}",
        "not comparable: other images; tokens of 2x2 bits; 72,000 images, 1.4 epochs",
    ),
}
"""Map from model to its number; the others' rows say that there is none yet."""


def kept(results: dict[str, Any]) -> dict[str, Any]:
    """Returns the part of a comparison's results.json to store."""
    whole = ("name", "title", "seeds", "checkpoint", "verdicts", "tuning", "train_seconds", "environment")
    columns, rows = (
        ("key", "title", "better", "digits"),
        ("name", "kind", "model", "samples", "steps", "diverged", "values", "digests"),
    )
    tables = [
        {
            "label": table["label"],
            "dataset": table["dataset"],
            "metrics": [{name: metric[name] for name in columns} for metric in table["metrics"]],
            "rows": [{name: row[name] for name in rows if name in row} for row in table["rows"]],
            "extractor": table["extractor"] and table["extractor"]["digest"],
        }
        for table in results["tables"]
    ]
    return {name: results[name] for name in whole} | {"tables": tables}


def means(measured: Measured, results: dict[str, Any]) -> dict[str, float]:
    """Returns each row's mean over the seeds in the measured column; diverged seeds, without a score, are skipped."""
    table = next(table for table in results["tables"] if table["label"] == measured.table)
    found = {}
    for row in table["rows"]:
        values = [value for value in row["values"].get(measured.column, ()) if value is not None]
        if values:
            found[row["name"]] = float(np.mean(values))
    return found


def row(model: str) -> str:
    """Returns a model's row of the table. Raises UserError if the results lack its number."""
    entry = MODELS[model]
    paper = f"[{entry.paper}]({entry.url}); {entry.section}"
    if model not in ROWS:
        return f"| `{model}` | {entry.title} | {paper} | not yet |  |  |\n"
    measured = ROWS[model]
    file = RESULTS / f"{measured.experiment}.json"
    try:
        scores = means(measured, read_json(file))
        number, published = measured.words.format(scores[measured.arm]), measured.published.format_map(scores)
    except (KeyError, StopIteration) as error:
        raise UserError(f"{file} does not hold {measured.column} of {measured.arm} on {measured.table}") from error
    cells = (f"`{model}`", entry.title, paper, f"{number} (`{measured.experiment}`)", published, measured.protocols)
    return f"| {' | '.join(cells)} |\n"


def table(text: str) -> str:
    """Returns the README's text with its table of models rewritten from the results."""
    before, first, after = text.partition(FIRST)
    if not first:
        raise UserError("the README has no table of models")
    return before + FIRST + "".join(map(row, MODELS)) + "\n" + after.partition("\n\n")[2]


def summarize(folders: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()) -> None:
    """Store the results of comparisons, and write the README's table of models from all stored results.

    Args:
        folders: output folders of `jaxgen compare`; none to write only the table
    """
    for folder in folders:
        results = read_json(folder / "results.json")
        if not isinstance(results, dict) or "tables" not in results:
            raise UserError(f"{folder / 'results.json'} does not hold the results of a comparison")
        try:
            file, content = RESULTS / f"{Path(results['name']).name}.json", kept(results)
        except (KeyError, TypeError) as error:
            raise UserError(f"{folder / 'results.json'} does not hold the whole results of a comparison") from error
        check_commit((content["environment"] or {}).get("commit"), f"{folder / 'results.json'} was made")
        write_json(file, content)
        print(file)
    README.write_text(table(README.read_text()))
    print(README)


if __name__ == "__main__":
    try:
        parse(summarize, sys.argv[1:], "python -m experiments.summary")
    except UserError as error:
        sys.exit(fail(str(error)))
