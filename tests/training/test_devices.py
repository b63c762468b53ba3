"""Several devices: eight of a CPU, in a new process, against a single one."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxgen import data
from jaxgen.models import vae
from jaxgen.training import Settings, engine, open_run, train

pytestmark = pytest.mark.slow

# Seeds, other settings, and the mesh made from eight devices.
CASES = {
    "seeds": ("dcgan", {"seeds": (0, 1, 2, 3, 4, 5, 6, 7)}, {"seeds": 8, "batch": 1}),
    "seeds-then-batches": ("dcgan", {"seeds": (0, 1)}, {"seeds": 2, "batch": 4}),
    "batches": ("vae", {"seeds": (0, 1, 2)}, {"seeds": 1, "batch": 8}),
    "own-order": ("vae", {"seeds": (0, 1, 2, 3), "own_order": True, "seeds_axis": "vmap"}, {"seeds": 4, "batch": 2}),
    "not-all": ("vae", {"seeds": (0, 1, 2), "batch_size": 12}, {"seeds": 3, "batch": 2}),
    "passes": ("naive_bayes", {"seeds": (0, 1)}, {"seeds": 2, "batch": 4}),
}
CONFIG = {"dcgan": {"features": 4, "latent_dim": 5}, "vae": {"features": 4, "latent_dim": 3}, "naive_bayes": {}}


def run(case, folder, **changes):
    model, settings, _ = CASES[case]
    settings = Settings(**{"steps": 20, "log_every": 10, "checkpoint_every": 10, "sample_every": 20} | settings)
    return train(model, CONFIG[model], settings, out=Path(folder) / case, progress=False, **changes)


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
    """Run folders of all cases, made on eight devices."""
    folder = tmp_path_factory.mktemp("eight")
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8"
    env = {**os.environ, "XLA_FLAGS": flags, "PYTHONWARNINGS": "error"}
    subprocess.run([sys.executable, __file__, str(folder)], env=env, check=True)
    return folder


@pytest.mark.parametrize("case", CASES)
def test_eight_devices_equal_one(case, eight, tmp_path):
    environment = json.loads((eight / case / "environment.json").read_text())
    assert (environment["devices"], environment["mesh"]) == (8, CASES[case][2])
    one, several = run(case, tmp_path), open_run(eight / case)
    assert (several.step, several.diverged) == (one.step, {})
    for a, b in zip(jax.tree.leaves(one.state), jax.tree.leaves(several.state), strict=True):
        # Sums are in another order. Adam divides by the gradients' size, so values near 0 may differ by its rate.
        np.testing.assert_allclose(np.asarray(b, np.float64), np.asarray(a, np.float64), rtol=1e-3, atol=1e-4)


def test_a_run_goes_on_with_other_devices(eight, tmp_path):
    """Started on eight devices and resumed on one; that bits may differ is printed and recorded."""
    settings = Settings(steps=30, log_every=10, checkpoint_every=10, sample_every=20, seeds=(0, 1, 2))
    resumed = train("vae", CONFIG["vae"], settings, out=eight / "batches", resume=True, progress=False)
    whole = train("vae", CONFIG["vae"], settings, out=tmp_path / "whole", progress=False)
    for a, b in zip(jax.tree.leaves(whole.state), jax.tree.leaves(resumed.state), strict=True):
        np.testing.assert_allclose(np.asarray(b, np.float64), np.asarray(a, np.float64), rtol=1e-3, atol=1e-4)
    environment = json.loads((eight / "batches" / "environment.json").read_text())
    assert environment["devices"] == 1
    assert environment["before"]["devices"] == 8


@pytest.mark.parametrize(
    ("num_seeds", "batch_size", "devices", "shape"),
    [
        (5, 64, 1, (1, 1)),
        (8, 64, 8, (8, 1)),
        (16, 64, 8, (8, 1)),
        (2, 64, 8, (2, 4)),
        (5, 64, 4, (1, 4)),
        (4, 64, 6, (4, 1)),
        (4, 64, 3, (2, 1)),
        (6, 64, 8, (2, 4)),
        (3, 5, 8, (1, 5)),
    ],
)
def test_the_devices_that_even_parts_can_use(num_seeds, batch_size, devices, shape):
    assert engine.mesh_shape(num_seeds, batch_size, devices) == shape


def test_seeds_need_no_communication_and_batches_are_divided(eight):
    """Checked by the collectives of the compiled program, and the shape of images in it."""
    programs = json.loads((eight / "programs.json").read_text())
    assert programs["seeds"] == {"collectives": 0, "whole batches": True, "eighths": False}
    assert programs["batches"]["collectives"] > 0
    assert not programs["batches"]["whole batches"]
    assert programs["batches"]["eighths"]


def program(num_seeds):
    """Inspects a VAE's compiled chunk program on this process's devices: collectives, and maps of batches of 64."""
    digits = data.load("digits")
    model = vae.make(vae.Config(features=4, latent_dim=3), digits.spec)
    devices = engine.mesh(num_seeds, 64)
    streams = engine.all_streams(tuple(range(num_seeds)))
    state = engine.initial_state(model, streams.init)
    keys, state, alive = engine.placed(devices, (streams.train, state, np.ones(num_seeds, bool)))
    images = engine.placed(devices, {"image": digits.train["image"]}, shared=True)
    rows = np.zeros((1, 64), np.int32), np.ones((1, 64), np.float32), None, np.int32(1)
    chunk = engine.chunk_program(model.phases[0], "map", "float32", devices)
    text = chunk.lower(keys, state, alive, images, *rows).compile().as_text()
    return {
        "collectives": len(re.findall(r"(all-\w+|reduce-scatter|collective-permute)(-start)?\(", text)),
        "whole batches": "f32[64,4,4,4]" in text,
        "eighths": "f32[8,4,4,4]" in text,
    }


if __name__ == "__main__":
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    programs = {"seeds": program(8), "batches": program(1)}
    (Path(sys.argv[1]) / "programs.json").write_text(json.dumps(programs))
    for name in CASES:
        first = run(name, sys.argv[1])
        # Resumes from the middle: the bits are those of the whole run.
        half = Path(sys.argv[1]) / "halves"
        if CASES[name][0] == "dcgan":
            model, settings, _ = CASES[name]
            settings = Settings(**{"log_every": 10, "checkpoint_every": 10, "sample_every": 20} | settings)
            for steps, resume in ((10, False), (20, True)):
                again = train(
                    model,
                    CONFIG[model],
                    Settings(**vars(settings) | {"steps": steps}),
                    out=half / name,
                    resume=resume,
                    progress=False,
                )
            assert again.digests() == first.digests(), name
