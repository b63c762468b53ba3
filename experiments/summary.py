"""Keeps the results of comparisons as small files, and writes README's table of models from them.

    python -m experiments.summary runs/digits

Of every comparison's folder given, the scores go into experiments/results/NAME.json: every seed's value of every
row and column, the verdicts, versions and device. Then the column "measured result" of README's table is written anew
from all such files, in the order of their names, from the words that other experiments left there for a model, and
from the classifiers that are shipped as extractors.
"""

import json
import re
import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from jaxgen.cli import fail
from jaxgen.cli.parsing import parse
from jaxgen.errors import UserError
from jaxgen.evaluation.networks import SHIPPED, WEIGHTS, load_classifier
from jaxgen.models import MODELS
from jaxgen.training.folder import read_json, write_json

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parents[1] / "README.md"

SHOWN = (
    "fd", "modes", "nearest_neighbor", "agreement", "class_recall", "parzen", "code_error",
    "log_prob_binary", "log_prob_uint8", "log_prob_continuous", "iwae_binary", "accuracy",
)  # fmt: skip
"""The columns of a comparison that README's table shows, where there are such scores."""


def kept(results: dict[str, Any]) -> dict[str, Any]:
    """What is kept of a comparison's results.json."""
    whole = ("name", "title", "seeds", "checkpoint", "verdicts", "tuning", "train_seconds", "environment")
    columns, rows = (
        ("key", "title", "better", "digits"),
        ("name", "kind", "model", "samples", "steps", "diverged", "values"),
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


def measured(model: str, results: list[dict[str, Any]]) -> str:
    """README's words of what was measured of a model: means over the seeds, a range where several arms are of it."""
    words = [of["measured"][model] for of in results if model in of.get("measured", ())]
    for comparison in [of for of in results if "tables" in of]:
        for table in comparison["tables"]:
            arms = [row for row in table["rows"] if row["kind"] == "trained" and row["model"] == model]
            shown = [_scores(metric, arms) for metric in table["metrics"] if metric["key"] in SHOWN]
            scores = [score for score in shown if score]
            if scores:
                of = f" of {len(arms)} arms" if len(arms) > 1 else ""
                where = (
                    comparison["name"] if len(comparison["tables"]) == 1 else f"{comparison['name']}, {table['label']}"
                )
                words.append(f"`{where}`{of}: {', '.join(scores)}")
    if model == "classifier":
        names = sorted(set(SHIPPED.values()))
        accuracy = {name: load_classifier(WEIGHTS / f"{name}-extractor.safetensors").accuracy for name in names}
        shown = ", ".join(f"{name} {100 * share:.1f}%" for name, share in accuracy.items())
        words.append(f"of the test images, the feature extractors (`strided`): {shown}")
    return "; ".join(words) or "not measured yet"


def _scores(metric: dict[str, Any], arms: list[dict[str, Any]]) -> str:
    """A column's means over the seeds, "" where no arm has any."""
    values = [[value for value in arm["values"].get(metric["key"], ()) if value is not None] for arm in arms]
    means = [np.mean(each) for each in values if each]
    means = sorted({f"{mean:.0f}" if abs(mean) >= 100 else f"{mean:#.3g}" for mean in means}, key=float)
    return f"{metric['title']} {' to '.join([means[0], means[-1]] if len(means) > 1 else means)}" if means else ""


def table(text: str) -> str:
    """README's text with the last column of its table of models as it was measured."""
    kept = [json.loads(file.read_text()) for file in sorted(RESULTS.glob("*.json"))]
    for model in MODELS:
        cell = measured(model, kept)
        # An experiment of that name has a row of fewer columns in another table.
        row = rf"^(\| `{model}` \|(?:[^|\n]*\|){{2,}})[^|\n]*\|$"
        text, found = re.subn(row, lambda row, cell=cell: f"{row[1]} {cell} |", text, flags=re.M)
        if found != 1:
            raise UserError(f"README's table of models has {found} rows of {model}")
    return text


def summarise(folders: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()) -> None:
    """Keep the results of comparisons, and write README's table of models from all that are kept.

    Args:
        folders: of comparisons, as `jaxgen compare` leaves them; none if only the table is to be written
    """
    for folder in folders:
        results = read_json(folder / "results.json")
        if not isinstance(results, dict) or "tables" not in results:
            raise UserError(f"{folder / 'results.json'} does not hold the results of a comparison")
        try:
            file, content = RESULTS / f"{Path(results['name']).name}.json", kept(results)
        except (KeyError, TypeError) as error:
            raise UserError(f"{folder / 'results.json'} does not hold the whole results of a comparison") from error
        write_json(file, content)
        print(file)
    README.write_text(table(README.read_text()))
    print(README)


if __name__ == "__main__":
    try:
        parse(summarise, sys.argv[1:], "python -m experiments.summary")
    except UserError as error:
        sys.exit(fail(str(error)))
