"""Time and memory of the evaluation's metrics at the size of a published table, against torch-fidelity and prdc.

    python -m experiments.benchmarks.evaluation

The first call in a new process is timed, as a user experiences it: compilation counts; imports and the generation of
the features do not. The peak is that of the whole process, features and libraries included.

prdc stores the matrix of all distances between real samples (20 GB for 50,000), so it is compared at --reference-real.
"""

import contextlib
import importlib.metadata
import importlib.util
import multiprocessing
import statistics
import sys
import time
import types
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from jaxgen.errors import UserError, check_positive

from . import timing

if TYPE_CHECKING:
    import numpy as np
    from rich.console import RenderableType

LATENT = 64
"""Dimensions in which the features vary."""

GOALS = {
    ("frechet_distance", "seconds"): 60.0,
    ("neighbor_scores", "seconds"): 120.0,
    ("neighbor_scores", "peak_gib"): 4.0,
}
"""Upper limits for jaxgen's metrics at the default size: the median of the seconds, the largest of the peaks."""

Timed = Literal["frechet_distance", "neighbor_scores", "kernel_distance"]


@dataclass(frozen=True)
class Options:
    """Measure the time and peak memory of metrics on two sets of synthetic features.

    The features are float32, nonnegative and correlated, like those of a classifier.
    """

    real: int = 50_000  # real samples
    fake: int = 10_000  # fake samples
    dimensions: int = 2048  # dimensions of the features
    reference_real: int = 10_000  # real samples in the comparison with prdc
    subsets: int = 100  # subsets of the kernel distance
    subset_size: int = 1000  # samples of either set in each subset
    metrics: tuple[Timed, ...] = get_args(Timed)  # metrics to time
    rounds: int = 3  # each times every contender once


Scores = dict[str, float]
Metric = Callable[["np.ndarray", "np.ndarray"], Scores]


class Contender(NamedTuple):
    """An implementation of a metric."""

    metric: str
    load: Callable[[Options], Metric]  # imports the library
    library: str = "jaxgen"
    packages: tuple[str, ...] = ()  # imported in addition to jaxgen's requirements
    smaller: bool = False  # at `reference_real`

    @property
    def name(self) -> str:
        """Name in the table."""
        return f"{self.metric}, {self.library}" + (", smaller" if self.smaller else "")


def _frechet_jaxgen(options: Options) -> Metric:
    from jaxgen.metrics.frechet import frechet_distance

    return lambda real, fake: {"value": frechet_distance(real, fake)}


def _frechet_torch_fidelity(options: Options) -> Metric:
    _stand_in_for_torchvision()
    import torch
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric

    def metric(real, fake):
        moments = [fid_features_to_statistics(torch.from_numpy(x)) for x in (real, fake)]
        return {"value": fid_statistics_to_metric(*moments, verbose=False)[KEY_METRIC_FID]}

    return metric


def _neighbors_jaxgen(options: Options) -> Metric:
    from jaxgen.metrics.neighbors import neighbor_scores

    return lambda real, fake: neighbor_scores(real, fake)._asdict()


def _neighbors_prdc(options: Options) -> Metric:
    from prdc import compute_prdc

    return lambda real, fake: {name: float(score) for name, score in compute_prdc(real, fake, nearest_k=5).items()}


def _kernel_jaxgen(options: Options) -> Metric:
    from jaxgen.metrics.kernel import kernel_distance

    sizes = {"subsets": options.subsets, "subset_size": options.subset_size}
    return lambda real, fake: kernel_distance(real, fake, **sizes)._asdict()


def _kernel_torch_fidelity(options: Options) -> Metric:
    _stand_in_for_torchvision()
    import torch
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric

    sizes = {"kid_subsets": options.subsets, "kid_subset_size": options.subset_size}

    def metric(real, fake):
        scores = kid_features_to_metric(torch.from_numpy(real), torch.from_numpy(fake), **sizes, verbose=False)
        return {"value": scores[KEY_METRIC_KID_MEAN], "deviation": scores[KEY_METRIC_KID_STD]}

    return metric


def _stand_in_for_torchvision() -> None:
    """Stubs a missing torchvision, which torch-fidelity imports but does not need for its metrics on features."""
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError):  # absent, or built for another torch
        for name in ("", ".transforms", ".transforms.functional", ".datasets"):
            sys.modules[f"torchvision{name}"] = types.ModuleType(f"torchvision{name}")
        for name in ("CIFAR10", "CIFAR100", "STL10"):  # torch-fidelity derives classes from these
            setattr(sys.modules["torchvision.datasets"], name, type(name, (), {}))


TORCH_FIDELITY = ("torch", "torch_fidelity")
CONTENDERS = {
    one.name: one
    for one in (
        Contender("frechet_distance", _frechet_jaxgen),
        Contender("frechet_distance", _frechet_torch_fidelity, "torch-fidelity", TORCH_FIDELITY),
        Contender("neighbor_scores", _neighbors_jaxgen),
        Contender("neighbor_scores", _neighbors_jaxgen, smaller=True),
        Contender("neighbor_scores", _neighbors_prdc, "prdc", ("prdc",), smaller=True),
        Contender("kernel_distance", _kernel_jaxgen),
        Contender("kernel_distance", _kernel_torch_fidelity, "torch-fidelity", TORCH_FIDELITY),
    )
}


def measure(options: Options) -> dict[str, Any]:
    """Returns seconds, peaks and scores. Raises UserError if a contender runs out of memory."""
    check_positive(options, "real", "fake", "dimensions", "reference_real", "subsets", "subset_size", "rounds")
    if options.subset_size > min(options.real, options.fake):
        raise UserError(f"subset size must be at most {min(options.real, options.fake)}, not {options.subset_size}")
    if min(options.real, options.fake, options.reference_real) < 6:
        raise UserError("6 samples or more are needed: the 5th neighbor is asked for")
    if not options.metrics:
        raise UserError("--metrics names none")
    names = [name for name, one in CONTENDERS.items() if one.metric in options.metrics and _is_there(one)]
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for n in range(options.rounds):
        turn = n % len(names)  # as in `timing.interleaved`
        for name in names[turn:] + names[:turn]:
            timing.say(f"round {n + 1} of {options.rounds}: {name}")
            runs[name].append(alone(name, options))
    contenders = {name: described(measured) for name, measured in runs.items()}
    comparisons = [compared(contenders, name) for name in names if CONTENDERS[name].packages]
    packages = {package for name in names for package in CONTENDERS[name].packages}
    return {
        "contenders": contenders,
        "comparisons": comparisons,
        "goals": goals(contenders),
        "references": {name: importlib.metadata.version(name) for name in sorted(packages)},
    }


def _is_there(contender: Contender) -> bool:
    missing = [name for name in contender.packages if importlib.util.find_spec(name) is None]
    if missing:
        timing.say(f"left out: {contender.name}, which needs the package {missing[0]}")
    return not missing


def alone(name: str, options: Options) -> dict[str, Any]:
    """Runs `measured` in a new process, as peak memory is a property of a process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        try:
            return process.submit(measured, name, options).result()
        except BrokenProcessPool as error:
            raise UserError(f"{name} was ended, probably for want of memory: choose fewer samples") from error


def measured(name: str, options: Options) -> dict[str, Any]:
    """Returns the seconds of one call, its scores, and this process's peak memory before and after it."""
    contender = CONTENDERS[name]
    metric = contender.load(options)
    real = features(options.reference_real if contender.smaller else options.real, options.dimensions, 1, 1.0)
    fake = features(options.fake, options.dimensions, 2, 0.9)
    before = timing.peak_bytes() / 2**30
    with contextlib.redirect_stdout(sys.stderr):  # prdc prints; the JSON goes to stdout
        start = time.perf_counter()
        scores = metric(real, fake)
        seconds = time.perf_counter() - start
    return {"seconds": seconds, "before_gib": before, "peak_gib": timing.peak_bytes() / 2**30, "scores": scores}


def features(num: int, dimensions: int, seed: int, spread: float) -> "np.ndarray":
    """Draws rectified linear mixtures of `LATENT` normals, float32 [num, dimensions]; all sets share the directions."""
    import numpy as np

    mixing, latents = (np.random.Generator(np.random.Philox(n)) for n in (0, seed))
    directions = np.float32(spread / LATENT**0.5) * mixing.standard_normal((LATENT, dimensions), np.float32)
    mixed = latents.standard_normal((num, LATENT), np.float32) @ directions
    return np.maximum(mixed, 0, out=mixed)


def described(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Summarizes a contender's runs: seconds and peaks by round, and the scores, which are equal in all rounds."""
    return {
        "seconds": [run["seconds"] for run in runs],
        "median": statistics.median(run["seconds"] for run in runs),
        "before_gib": [run["before_gib"] for run in runs],
        "peak_gib": [run["peak_gib"] for run in runs],
        "scores": runs[0]["scores"],
    }


def compared(contenders: dict[str, dict[str, Any]], peer: str) -> dict[str, Any]:
    """Compares a peer with jaxgen at the same size. Raises RuntimeError if their scores differ."""
    jaxgen = CONTENDERS[peer]._replace(library="jaxgen").name
    theirs, ours = contenders[peer], contenders[jaxgen]
    apart = {name: abs(score - ours["scores"][name]) for name, score in theirs["scores"].items()}
    # random subsets differ between libraries; otherwise only rounding does
    allowed = 1e-3 * max(1, *ours["scores"].values())
    if "deviation" in apart:
        apart, allowed = {"value": apart["value"]}, ours["scores"]["deviation"]
    if max(apart.values()) > allowed:
        raise RuntimeError(f"not the same metric: {peer} gives {theirs['scores']}, {jaxgen} {ours['scores']}")
    return {
        "peer": peer,
        "jaxgen": jaxgen,
        **timing.ratio(theirs["seconds"], ours["seconds"]),
        "memory_ratio": max(theirs["peak_gib"]) / max(ours["peak_gib"]),
        "apart": max(apart.values()),
    }


def goals(contenders: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns each goal with its measured value."""
    rows = []
    for (metric, quantity), goal in GOALS.items():
        ours = contenders.get(f"{metric}, jaxgen")
        if ours:
            value = ours["median"] if quantity == "seconds" else max(ours[quantity])
            rows.append({"metric": metric, "quantity": quantity, "goal": goal, "measured": value, "kept": value < goal})
    return rows


def shown(result: dict[str, Any]) -> "RenderableType":
    """Formats the timings and peaks, the ratios and the goals as tables."""
    from rich.console import Group
    from rich.table import Table

    given = result["arguments"]
    title = f"{given['real']} real and {given['fake']} fake samples, {given['dimensions']} dimensions"
    times = Table("contender", "s", "by round", "GiB before", "GiB at the peak", title=title)
    times.caption = f"smaller: {given['reference_real']} real samples"
    for name, one in result["contenders"].items():
        rounds = " ".join(f"{seconds:.1f}" for seconds in one["seconds"])
        before, peak = (f"{max(one[key]):.2f}" for key in ("before_gib", "peak_gib"))
        times.add_row(name, f"{one['median']:.1f}", rounds, before, peak)
    ratios = Table("jaxgen is faster than", "times", "rounds", "its memory, times", "scores apart")
    for one in result["comparisons"]:
        rounds = f"{one['low']:.2f} to {one['high']:.2f}"
        ratios.add_row(one["peer"], f"{one['ratio']:.2f}", rounds, f"{one['memory_ratio']:.2f}", f"{one['apart']:.1g}")
    words = [
        f"{one['metric']}: {one['measured']:.3g} {one['quantity']}, the goal is under {one['goal']:g}: "
        f"{'kept' if one['kept'] else 'missed'}"
        for one in result["goals"]
    ]
    return Group(times, ratios, *words)


if __name__ == "__main__":
    sys.exit(timing.main("evaluation", Options, measure, shown))
