"""The feature extractor and the judge of a dataset: classifiers trained once and kept in the cache."""

import hashlib
import json
import tempfile
from pathlib import Path
from typing import NamedTuple

import jax

from jaxgen import data
from jaxgen.evaluation.extractor import Extractor, extractor
from jaxgen.training import Run, Settings, open_run, train
from jaxgen.training.run import environment
from jaxgen.training.run import plan as make_plan

STEPS = 600


class Network(NamedTuple):
    """How a dataset's classifier is trained for evaluation."""

    name: str
    config: dict
    seed: int


EXTRACTOR = Network("extractor", {"features": 32, "embedding_dim": 64}, seed=0)
# Another width, other weights and another order of the data, so that the two do not err alike.
JUDGE = Network("judge", {"features": 24, "embedding_dim": 128}, seed=1)


def extractors(dataset: data.Dataset, progress: bool = True) -> tuple[Extractor, Extractor]:
    """(extractor, judge) of a dataset, trained on its training images where the cache has them not.

    The cache's name of one holds all that its weights depend on, the environment too.
    """
    return tuple(_trained(network, dataset, progress) for network in (EXTRACTOR, JUDGE))


def _trained(network: Network, dataset: data.Dataset, progress: bool) -> Extractor:
    # How a run is fed does not change what it is measured by.
    options = dataset.options | {"flip": False, "pipeline": "auto", "workers": 0}
    settings = Settings(
        dataset=dataset.name,
        **options,
        seeds=(network.seed,),
        data_seed=network.seed,
        steps=STEPS,
        log_every=100,
        sample_every=STEPS,
        checkpoint_every=STEPS,
    )
    plan = make_plan("classifier", network.config, settings)
    depends = json.dumps([plan.described(), environment(dataset._replace(options=options))], sort_keys=True)
    folder = data.data_dir() / "extractors" / hashlib.sha256(depends.encode()).hexdigest()[:16]
    if not folder.exists():
        # Trained elsewhere and renamed, so that the name stands for a finished run only: of two processes
        # that train at once (the same bits) the second finds the name taken, and one killed leaves none.
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="incomplete.", dir=folder.parent) as temporary:
            train("classifier", network.config, settings, out=Path(temporary) / "run", progress=progress)
            try:
                (Path(temporary) / "run").rename(folder)
            except OSError:
                if not folder.exists():
                    raise
    run: Run = open_run(folder)
    state = jax.tree.map(lambda leaf: leaf[0], run.state)
    note = f"convolutional classifier, {network.config}, {STEPS} steps on the training images, seed {network.seed}"
    digest = run.digests()[network.seed]
    return extractor(f"{dataset.name} {network.name}", run.plan.model, state, digest, note, dataset.test)
