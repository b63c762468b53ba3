"""StableHLO programs and ONNX decoders of every model, against the run's own functions."""

import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import data, models
from jaxgen.portable import onnx_files, programs, weights
from jaxgen.training import Settings, engine
from tests.cases import some_slow
from tests.models.by_hand import drawn_state
from tests.models.contract import contracts

for package in ("flatbuffers", "onnx", "onnxruntime"):
    pytest.importorskip(package, reason=f"{package} comes with the extra export")

CONTRACTS = contracts()
DRAWING = [name for name in models.MODELS if CONTRACTS[name].samples and name != "meshvae"]
DECODING = [name for name in DRAWING if CONTRACTS[name].prior]


@functools.cache
def plan_of(name):
    """A plan of a small model on the digits, and a state of it."""
    dataset, module = data.load(CONTRACTS[name].dataset), models.load(name)
    model = module.make(module.Config(**CONTRACTS[name].small), dataset.spec)
    plan = SimpleNamespace(model=model, dataset=dataset, settings=Settings(), model_name=name)
    # Codes are the nearest of a codebook, and drawn parameters of TransGAN make black images.
    if CONTRACTS[name].prior == "discrete" or name == "transgan":
        return plan, jax.device_get(jax.jit(model.init)(jax.random.key(0)))
    return plan, drawn_state(model.init)


@pytest.mark.parametrize("name", some_slow(DRAWING, quick=["vae"]))
def test_programs_give_the_runs_bits(name, monkeypatch):
    """`check` compares them; the samples of another seed differ from those of this one."""
    monkeypatch.setattr(programs, "NUMBERS", (2,))
    plan, state = plan_of(name)
    own = weights.weights(state)
    made = programs.programs(plan)
    assert [program.kind for program in made] == (["sample", "decode"] if plan.model.latents else ["sample"])
    assert not programs.lacks(plan)
    for program in made:
        content = programs.exported(program, own)
        programs.check(content, program, plan, own, seed=11)
        first, second = (
            np.asarray(program.run(state, *programs.operands_for(program, plan, state, s))) for s in (1, 2)
        )
        assert (first != second).any()


@pytest.mark.parametrize("name", some_slow(DECODING, quick=["vae"]))
def test_onnx_decoders_are_the_models(name, tmp_path, monkeypatch):
    """`save` compares them, to 1e-5; the images are not all alike."""
    monkeypatch.setattr(programs, "NUMBERS", (2,))
    plan, state = plan_of(name)
    onnx_files.save(tmp_path, plan, state, seed=11)
    decoder = programs.decoder(plan.model, plan.dataset.spec, 2)
    operands = programs.operands_for(decoder, plan, state, 4)
    made = onnx_files.run((tmp_path / "decode-2.onnx").read_bytes(), onnx_files.named_inputs(decoder, operands))
    wanted = np.asarray(decoder.run(state, *operands))
    assert wanted.std() > 0.01
    np.testing.assert_allclose(made, wanted, atol=1e-5)


@pytest.mark.parametrize("seed", [0, 5, 2**31, 2**32 - 1])
def test_the_key_of_a_seed_known_when_called_is_that_of_jaxgen_sample(seed):
    keys = engine.all_streams((seed,)).sample
    wanted = jax.random.fold_in(jax.random.fold_in(keys[0], 2**31), 0)
    made = jax.jit(programs.sampling_key)(jnp.uint32(seed))
    assert jax.random.key_data(made).tolist() == jax.random.key_data(wanted).tolist()
