"""StableHLO programs and ONNX decoders of every model, against the run's own functions."""

import functools
import importlib.util
import os
import subprocess
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from experiments.benchmarks import tpu_programs
from jaxgen import data, models
from jaxgen.nn.conv import conv
from jaxgen.portable import onnx_files, programs, weights
from jaxgen.training import Settings, engine
from tests.cases import some_slow
from tests.models.by_hand import drawn_state
from tests.models.contract import contracts
from tests.portable import written as written_program

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


def test_a_convolution_by_minimal_filtering_is_exported():
    kernel = {"kernel": np.random.default_rng(0).normal(size=(3, 3, 128, 128)).astype(np.float32)}
    x = jax.random.normal(jax.random.key(0), (16, 8, 8, 128))
    own = jax.jit(lambda own, x: conv(x, own["kernel"]))
    program = programs.Program("decode", 16, own, (jax.ShapeDtypeStruct(x.shape, x.dtype),), own)
    content = programs.exported(program, kernel)
    made = export.deserialize(bytearray(content)).call(kernel, x)
    np.testing.assert_array_equal(made, own(kernel, x))
    assert "LayoutConstraint" in own.lower(kernel, x).as_text()


# Other versions and devices


def test_a_program_of_another_jax_gives_the_same_pixels():
    """The sampler, its weights and its images were written by JAX 0.10.2."""
    written = tuple(map(int, written_program.BY.split(".")))
    if jax.__version_info__ < written:
        pytest.skip(f"JAX {jax.__version__} is older than {written_program.BY}, which wrote the program")
    content = (written_program.FOLDER / "sample-64.jaxexport").read_bytes()
    own = weights.load(written_program.FOLDER, [weights.MODEL])
    made = np.asarray(export.deserialize(bytearray(content)).call(own, np.uint32(written_program.SEED)))
    with np.load(written_program.FOLDER / "images.npz") as arrays:
        np.testing.assert_array_equal(made, arrays["image"])
    assert made.std() > 20


COMPILED = """
import sys
sys.modules["jaxgen"] = None  # an import of it fails
import jax
from jax import export
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

chip = SingleDeviceSharding(topologies.get_topology_desc("v5e:2x2", "tpu").devices[0])
for file in sys.argv[1:]:
    program = export.deserialize(bytearray(open(file, "rb").read()))
    shapes = [jax.ShapeDtypeStruct(each.shape, each.dtype, sharding=chip) for each in program.in_avals]
    operands = jax.tree.unflatten(program.in_tree, shapes)
    compiled = jax.jit(lambda args, kwargs: program.call(*args, **kwargs)).trace(*operands).lower().compile()
    (result,) = jax.tree.leaves(program.out_avals)
    print(file, compiled.memory_analysis().output_size_in_bytes, result.size * result.dtype.itemsize)
"""


@pytest.mark.slow
def test_programs_compile_for_a_tpu_without_jaxgen(tmp_path):
    """A result takes at least its own bytes on the chip."""
    if not importlib.util.find_spec("libtpu"):
        pytest.skip(f"the compiler for TPUs is not installed: {tpu_programs.wanted_libtpu()}")
    files = []
    for name in ("vae", "cgan", "pixelcnn"):
        plan, state = plan_of(name)
        for program in programs.programs(plan):
            if program.num == 64:
                files.append(tmp_path / f"{name}-{program.kind}")
                files[-1].write_bytes(programs.exported(program, weights.weights(state)))
    environment = os.environ | tpu_programs.ENVIRONMENT | {"JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", COMPILED, *map(str, files)]
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    lines = [line.split() for line in ran.stdout.splitlines()]
    assert [line[0] for line in lines] == list(map(str, files))
    assert all(int(on_chip) >= int(own) for _, on_chip, own in lines)
