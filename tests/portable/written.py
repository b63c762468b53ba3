"""A sampler with its weights and images, which tests call with other versions of JAX than the one that wrote it.

    python -m tests.portable.written

writes them into FOLDER by the JAX that is installed. JAX reads what a version of the last six months wrote, so they are
written anew, in a folder of that version's name, when the newest one refuses them.
"""

from pathlib import Path
from types import SimpleNamespace

import numpy as np

from jaxgen import data, models
from jaxgen.portable import programs, weights
from tests.models.by_hand import drawn_state

BY = "0.10.2"
FOLDER = Path(__file__).parent / f"written_by_jax_{BY.replace('.', '_')}"
SEED = 5


def write():
    dataset, module = data.load("digits"), models.load("vae")
    model = module.make(module.Config(features=4, smallest=4, latent_dim=3, dense_units=8), dataset.spec)
    state = weights.of_seed(drawn_state(model.init), ...)
    own = weights.weights(state)
    plan = SimpleNamespace(model=model, dataset=dataset)
    (sampler,) = [each for each in programs.programs(plan) if (each.kind, each.num) == ("sample", 64)]
    weights.save(FOLDER, state, {})
    (FOLDER / weights.OPTIMIZER).unlink()
    (FOLDER / "sample-64.jaxexport").write_bytes(programs.exported(sampler, own))
    np.savez_compressed(FOLDER / "images.npz", image=np.asarray(sampler.run(state, np.uint32(SEED))))


if __name__ == "__main__":
    write()
