"""Files of a run in an exported folder: those that open it, without folders of the machine that trained.

config.json, environment.json, dataset.json, dataset.npz, vocabulary.json, metrics.jsonl, diverged.json, result.json,
model.py and what it imports are as in a run's folder (`jaxgen.training.folder`), up to the step that is exported.
"""

import json
import shutil
from pathlib import Path

from jaxgen.data import Dataset
from jaxgen.training import dataset_file, folder
from jaxgen.training.folder import Run
from jaxgen.training.plan import Plan
from jaxgen.training.rows import read_rows


def save(made: Path, run: Run, step: int) -> None:
    """Writes the files of a run at a step into the folder `made`."""
    plan = run.plan
    environment = folder.read_environment(run.path)
    folder.write_json(made / folder.CONFIG, plan.shared(plan.described()))
    folder.write_json(made / folder.ENVIRONMENT, plan.shared(environment))
    dataset_file.save(made, dataset_of(plan))
    rows = [row for row in read_rows(run.path / folder.METRICS) if row["step"] <= step]
    (made / folder.METRICS).write_text("".join(json.dumps(row) + "\n" for row in rows))
    if (run.path / folder.DIVERGED).exists():
        stopped = folder.read_json(run.path / folder.DIVERGED)
        folder.write_json(made / folder.DIVERGED, {s: of for s, of in stopped.items() if of["step"] < step})
    if (run.path / folder.RESULT).exists() and (result := folder.read_result(run.path))["step"] == step:
        folder.write_json(made / folder.RESULT, result)
    if (run.path / folder.MODEL_FILE).exists():
        for name in (folder.MODEL_FILE, *environment.get("model_imports", {})):
            (made / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(run.path / name, made / name)


def dataset_of(plan: Plan) -> Dataset:
    """The dataset of a run, described without folders of this machine."""
    dataset = plan.dataset
    return dataset._replace(options=plan.shared(dataset.options), note=plan.shared(dataset.note))
