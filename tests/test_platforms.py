"""Every model's programs for GPUs and TPUs, without either: lowered, and compiled by the compiler for TPUs."""

import importlib.util
import json
import os
import re
import subprocess
import sys
import typing
from pathlib import Path

import jax
import pytest
from jax import export
from jax.experimental.layout import Layout
from jaxgen.experiments.benchmarks import flops, tpu_programs
from jaxgen.experiments.benchmarks.programs import CASES, SEEDS, programs, told

from jaxgen import models
from jaxgen.adversarial.turns import AdversarialConfig
from jaxgen.models.quantized import QuantizedConfig
from jaxgen.nn.conv import conv_p, dw_p, dx_p
from jaxgen.nn.promotion import library_promotion
from jaxgen.training.engine import AXIS, all_streams, compiler_options, initial_state

ROOT = Path(__file__).parents[1]


def made(name):
    case = CASES[name]
    module = models.load(case.model)
    return module.make(module.Config(**case.fields), told(case))


# The cases.


@pytest.mark.parametrize(
    "config", [AdversarialConfig, QuantizedConfig, *(models.load(name).Config for name in models.MODELS)]
)
def test_every_option_that_changes_a_program_is_in_a_case(config):
    """Covers all choices of a class's own fields, and a value for fields that are off, empty or 1 by default."""
    cases = [case for case in CASES.values() if issubclass(models.load(case.model).Config, config)]
    inherited = {name for base in config.__mro__[1:] for name in getattr(base, "__annotations__", ())}
    for name in config.__annotations__.keys() - inherited:
        default, kind = getattr(config, name), typing.get_type_hints(config)[name]
        found = [case.fields[name] for case in cases if name in case.fields]
        if default in (0, None, ()) or (type(default) is int and default == 1):
            assert found, name
        if typing.get_origin(kind) is typing.Literal:
            assert {default, *found} == set(typing.get_args(kind)), name


def test_every_network_has_a_case_in_bfloat16():
    halved = {case.model for case in CASES.values() if case.precision == "bfloat16"}
    assert halved == set(models.MODELS) - {"naive_bayes"}  # which has no layers


# Lowered for GPUs and TPUs.

SAMPLED_IN_LOOPS = ("transformer", "pixelcnn", "vqvae", "vqvae2")
LOOPS = dict.fromkeys(SAMPLED_IN_LOOPS, ("sample",)) | {"pixelrnn": ("train", "sample")}
"""Map from model to the programs that are loops over pixels; the compiler counts a loop's body once."""

QUICK = ("classifier", "naive_bayes", "autoencoder", "vae", "gan", "dcgan")


def equations(jaxpr, seen):
    """Counts jaxgen's convolutions in a jaxpr, each called function once."""
    if id(jaxpr) in seen:
        return 0
    seen[id(jaxpr)] = jaxpr
    own = sum(equation.primitive in (conv_p, dx_p, dw_p) for equation in jaxpr.eqns)
    return own + sum(equations(inner, seen) for equation in jaxpr.eqns for inner in flops._inner(equation.params))


def groups(module):
    """Returns the number of groups of each convolution in a lowered module."""
    found = [
        re.findall(r"(?:batch|feature)_group_count = (\d+)", line)
        for line in module.splitlines()
        if "stablehlo.convolution(" in line
    ]
    return [int(batch) * int(feature) for batch, feature in found]


def lowered(program, platform):
    """Returns the text of a program's lowered module."""
    with library_promotion():  # JAX's attention in bfloat16 mixes dtypes when it is lowered
        exported = export.export(program.jitted, platforms=(platform,))(*program.operands)
    assert exported.platforms == (platform,)
    return exported.mlir_module()


def test_programs_are_made_with_the_compiler_options_of_a_run(monkeypatch):
    """JAX takes compiler options of an outermost program only; the flags of these tests stand in their place."""
    monkeypatch.setenv("XLA_FLAGS", "")
    assert compiler_options("cpu")
    model = made("naive_bayes")
    state = initial_state(model, all_streams(tuple(range(SEEDS))).init)
    for program in programs(CASES["naive_bayes"], AXIS["tpu"]):
        for given, wanted in zip(jax.tree.leaves(program.state), jax.tree.leaves(state), strict=True):
            assert (given.shape, given.dtype) == (wanted.shape, wanted.dtype)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
        for name, case in CASES.items()
        if case.devices == 1
    ],
)
def test_each_convolution_is_one_of_xlas_for_all_seeds_on_gpus_and_tpus(name):
    """CPUs have one convolution per seed, or matrix products."""
    for program in programs(CASES[name], AXIS["tpu"]):
        wanted = equations(program.jitted.trace(*program.operands).jaxpr.jaxpr, {})
        on_tpu, on_cuda, on_rocm = (groups(lowered(program, platform)) for platform in ("tpu", "cuda", "rocm"))
        assert on_tpu == on_cuda == on_rocm
        if CASES[name].model == "vaegan" and program.name != "sample":
            assert 0 < len(on_tpu) < wanted  # gradients of the three players that move nobody are left out
        else:
            assert len(on_tpu) == wanted
        # Convolutions of the data, or of a map of ones, need no groups: all seeds' kernels fit side by side in one.
        assert set(on_tpu) - {1} == ({SEEDS} if wanted else set())


# Compiled for TPUs.


@pytest.mark.parametrize(
    ("shape", "dtype", "order", "tiling", "expected"),
    [
        ((), "int32", (), ((128,),), 4 * 128),
        ((200,), "float32", (0,), ((128,),), 4 * 256),
        ((2, 3, 5), "float32", (0, 1, 2), ((8, 128),), 4 * 2 * 8 * 128),
        ((2, 3, 5), "float32", (2, 0, 1), ((2, 128),), 4 * 5 * 2 * 128),
        ((16, 300), "bfloat16", (0, 1), ((8, 128), (2, 1)), 2 * 16 * 384),
        ((300, 16), "uint8", (1, 0), ((8, 128), (4, 1)), 16 * 384),
        ((3, 2), "uint32", (0, 1), ((1, 128),), 4 * 3 * 128),
        ((2, 0), "float32", (0, 1), (), 0),
    ],
)
def test_bytes_in_a_tpus_memory(shape, dtype, order, tiling, expected):
    assert tpu_programs.padded_bytes(shape, dtype, Layout(order, tiling)) == expected


@pytest.fixture(scope="module")
def compiled():
    """The compiler's reports by case and program, from a new process, as libtpu stays in a process that loaded it."""
    if not importlib.util.find_spec("libtpu"):
        pytest.skip(f"the compiler for TPUs is not installed: {tpu_programs.wanted_libtpu()}")
    command = [sys.executable, "-m", "experiments.benchmarks.tpu_programs", "--effort", "-1", "--json"]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    result = json.loads(ran.stdout)
    assert result["chip"] == "TPU v5 lite"
    found = {name: {} for name in CASES}
    for one in result["programs"]:
        found[one["case"]][one["program"]] = one
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_compiled_for_a_tpu(name, compiled):
    """The arguments' bytes are computed by hand, the state is donated as a whole, and the operations are a step's."""
    model, case = made(name), CASES[name]
    samples = model.sampler is not None and case.model != "meshvae"  # which draws on the host
    assert list(compiled[name]) == [phase.name for phase in model.phases] + ["sample"] * samples
    for program, stated in compiled[name].items():
        assert "error" not in stated
        assert stated["arguments"] == stated["padded_arguments"]
        assert stated["donated"] == (0 if program == "sample" else stated["padded_state"])
        assert ("all-reduce" in stated["collectives"]) == (case.devices > 1 and program != "sample")
        if case.model != "naive_bayes" and program not in LOOPS.get(case.model, ()):  # its products are of integers
            # vaegan's unused gradients count as useful, but the compiler drops them. Elementwise operations do not
            # count: in dgdn's few maps those of unpooling are the most.
            chips = (
                min(case.devices, SEEDS) if program == "sample" else case.devices
            )  # samples are divided by seed only
            least, most = 0.7 if case.model == "vaegan" else 1, 10 if case.model == "dgdn" else 4
            assert least < chips * stated["flops"] / stated["useful_flops"] < most


@pytest.mark.slow
def test_states_and_operations_of_compiled_programs_by_hand(compiled):
    """Two seeds with 10 classes, 256 pixels, 16 images a step."""
    logistic = compiled["classifier-logistic"]["train"]
    assert logistic["state"] == 2 * 4 * (2 + 3 * (256 + 1) * 10)  # two counts; weights, and AdamW's two averages
    assert logistic["useful_flops"] == 2 * 2 * 2 * 16 * 256 * 10  # forward, and the weights' gradient
    for sums, name in ((1, "naive_bayes"), (2, "naive_bayes-gaussian"), (16, "naive_bayes-categorical")):
        assert compiled[name]["count"]["state"] == 2 * 4 * (1 + 10 + sums * 256 * 10)


@pytest.mark.slow
def test_compiled_for_four_chips_that_share_seeds_and_batches(compiled):
    """Each chip has one of two seeds and half of every batch."""
    one, four = (compiled[name]["adversarial"] for name in ("dcgan", "dcgan-devices"))
    assert four["state"] == one["state"] / 2
    assert four["flops"] == pytest.approx(one["flops"] / 4, rel=0.15)
