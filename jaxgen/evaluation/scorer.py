"""Scores runs and images: the rows of a table, beside reference rows (real images, the untrained model)."""

import contextlib
import dataclasses
import importlib.metadata
import math
import os
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from typing import Any, Literal

import jax
import numpy as np

from jaxgen import models
from jaxgen.config import given
from jaxgen.data import Dataset
from jaxgen.data.images import Transform
from jaxgen.data.options import Options
from jaxgen.data.subsets import ALL_LABELS
from jaxgen.dependencies import function_sources, sources
from jaxgen.errors import UserError
from jaxgen.evaluation import networks
from jaxgen.evaluation.cache import cached, content
from jaxgen.evaluation.extractor import Extractor
from jaxgen.evaluation.of_samples import Examples, Sides, spread
from jaxgen.evaluation.options import Scoring
from jaxgen.evaluation.rejection import rejecting_sampler, rejection_note
from jaxgen.evaluation.requested import Requested
from jaxgen.evaluation.table import (
    FAMILIES,
    FAMILY_OF,
    MISLED,
    MODELS,
    SAMPLES,
    Family,
    check_scoring,
    likelihood_notes,
)
from jaxgen.model import BINARY_THRESHOLD, Model, State
from jaxgen.progress import Progress
from jaxgen.training import Run, engine, folder
from jaxgen.training.environment import DEFINING, ROUNDING, jax_settings
from jaxgen.training.folder import environment_changes
from jaxgen.training.plan import Plan

PACKAGES = ("jax", "jaxlib", "flax", "numpy", "scipy", "scikit-learn", "pillow")
"""Packages whose versions scores depend on."""

MOST = 10_000
"""Most samples per seed by default."""


class Scorer:
    """Scores the rows of one table, which share a dataset, its extractor and judge, and the settings of scoring."""

    def __init__(
        self, dataset: Dataset, scoring: Scoring, progress: bool, split: Literal["test", "validation"] = "test"
    ):
        check_scoring(scoring)
        dataset = _still(_with_all_labels(dataset))
        self.split, self.scoring = split, scoring
        # To choose by validation data, the validation split takes the place of the test split.
        self.dataset = dataset._replace(test=getattr(dataset, split))
        self._bar = Progress(progress)
        self.entry = dataset.spec.subject
        self.num = scoring.samples or min(MOST, dataset.spec.num_examples)
        self._train = partial(networks.extractors, dataset, scoring.extractor, progress)
        self.requested = Requested(self.dataset, scoring, self.num, split, lambda: self.networks)

    @cached_property
    def networks(self) -> tuple[Extractor | None, Extractor | None]:
        """Extractor and judge, trained on first use where there are none in the cache."""
        needed = self.scoring.rejection > 1 or any(FAMILIES[name].networks for name in self.requested.names)
        return self._train() if needed else (None, None)

    @property
    def extractor(self) -> Extractor | None:
        """The extractor, None if no requested metric uses networks."""
        return self.networks[0]

    @property
    def judge(self) -> Extractor | None:
        """The judge, None without labels, and if no requested metric uses networks."""
        return self.networks[1]

    def __enter__(self) -> "Scorer":
        _ = self.networks  # trained before this bar starts, since training shows its own
        self._bar.__enter__()
        self._bar.start("", 0)
        return self

    def __exit__(self, *exc) -> None:
        self._bar.__exit__(*exc)

    @cached_property
    def sides(self) -> Sides:
        """Real examples of each split, against which samples are scored."""
        train, validation, test = (
            Examples(each[self.entry], each.get("label"), self.extractor, self.judge)
            for each in (self.dataset.train, self.dataset.validation, self.dataset.test)
        )
        return Sides(
            self.dataset, train, validation, test, self._learned, self.scoring.sampling_seed, self._similarities
        )

    def _learned(self, examples: Examples, images: np.ndarray) -> np.ndarray:
        """Labels of images, predicted by a classifier trained on the examples."""
        return networks.learned(examples.values, examples.labels, self.dataset, self.scoring.sampling_seed)(images)

    @cached_property
    def _retriever(self) -> Callable[[np.ndarray, Sequence[str]], np.ndarray]:
        return networks.retriever(self.dataset, self._bar.say)

    def _similarities(self, images: np.ndarray, captions: Sequence[str]) -> np.ndarray:
        """Cosines of the codes of images and captions, by a text encoder that is trained on first use."""
        return self._retriever(images, captions)

    def _captions(self, tokens: np.ndarray | None) -> list[str] | None:
        """Captions of tokens [num, words]; None for data without captions."""
        vocabulary = self.dataset.vocabulary
        return vocabulary.decode(tokens) if vocabulary is not None and tokens is not None else None

    @cached_property
    def _depends(self) -> dict[str, Any]:
        """Part of the cache key shared by all scores; the rest identifies what is scored."""
        return {
            "dataset": [self.dataset.name, self.dataset.fingerprint],
            "extractor": self.extractor and [self.extractor.name, self.extractor.digest],
            "judge": self.judge and self.judge.digest,
            "seed": self.scoring.sampling_seed,
            "split": self.split,
            "networks": sources("jaxgen.models.classifier", "jaxgen.evaluation.inception"),
            "learned": function_sources(networks.learned),
            "examples": [
                function_sources(each.func) for each in vars(Examples).values() if isinstance(each, cached_property)
            ],
            "versions": [importlib.metadata.version(name) for name in PACKAGES],
            "device": [jax.devices()[0].device_kind, jax.device_count()],
            "xla_flags": os.environ.get("XLA_FLAGS", ""),
            "jax_settings": {name: str(value) for name, value in jax_settings(DEFINING + ROUNDING).items()},
        }

    def of_samples(
        self,
        name: str,
        values: np.ndarray,
        labels: np.ndarray | None,
        captions: Sequence[str] | None = None,
        without: str = "",
        only: str = "",
    ) -> dict[str, float]:
        """Scores of examples, images uint8 [num, H, W, C] or points of any origin.

        With scores that equal samples can mislead comes `spread`, which has no column.

        without: a metric that is left out. only: the one metric that is not.
        """
        fake = Examples(values, labels, self.extractor, self.judge, captions)
        families = self.requested.families(SAMPLES, None, labels is not None, captions is not None)
        families = [row for row in families if row.name != without and only in ("", row.name)]
        told = None if captions is None else np.array(captions)
        own = content(values=values, labels=labels, captions=told) if families else ""
        if self.extractor and not self.extractor.whole:  # its digest may miss imports, so the features identify it
            own = content(own=np.array(own), fake=fake.features, real=self.sides.test.features)
        scores = {}
        self._bar.more(len(families))
        for row in families:
            self._bar.say(f"{name}: {row.name}")
            with _told(row.name):
                key: list[Any] = [row.name, own, function_sources(row.score), self._depends]
                if row.name == "r_precision":
                    key.append([sources("jaxgen.models.stackgan"), function_sources(networks.retriever)])
                scores |= cached(key, partial(self._scored, row, fake))
            self._bar.advance()
        if any(key in scores for key in MISLED):
            scores |= cached(
                ["spread", own, function_sources(spread), self._depends], lambda: {"spread": spread(self.sides, fake)}
            )
        return scores

    def _scored(self, family: Family, fake: Examples) -> dict[str, float]:
        return family.score(self.sides, fake)

    def of_model(self, plan: Plan, name: str, seeds: tuple[int, ...], keys, state: State) -> dict[str, list[float]]:
        """Scores of these seeds of a model by all metrics that need no samples."""
        families = self.requested.families(MODELS, plan.model, False)
        options = [self.scoring.importance_samples, self.scoring.temperatures, self.scoring.examples]
        own = [plan.described(), plan.sources(), engine.digests(seeds, state), options]
        scores = {}
        self._bar.more(len(families))
        for row in families:
            self._bar.say(f"{name}: {row.name}")
            with _told(row.name):
                key = [row.name, own, function_sources(row.score), self._depends]
                scores |= cached(key, partial(row.score, plan.model, keys, state, self.dataset, self.scoring))
            self._bar.advance()
        return scores

    def real_rows(self, arms: Sequence[Model]) -> list[dict[str, Any]]:
        """Rows of real images scored as if a model had made them: the target for models.

        They are training images, so none is a test image; as many as the models' samples, if there are that many.
        If one of the models draws bits and the data are not bits, a second row scores the same images as bits: the
        score of a perfect sampler of bits. Beside the satisfaction of captions stand that of the same images shrunk to
        half their size and enlarged, and that of the captions of other images.
        """
        train = self.dataset.train
        order = np.random.Generator(np.random.Philox(self.scoring.sampling_seed)).permutation(len(train[self.entry]))
        rows = np.sort(order[: self.num])
        values, labels = train[self.entry][rows], train["label"][rows] if "label" in train else None
        captions = self._captions(train["caption"][rows]) if "caption" in train else None
        what = f"{len(rows):,} of the training examples" if len(rows) < len(order) else "the training examples"
        if self.judge:
            what += f", which {'the judge' if self.scoring.extractor else 'extractor and judge'} learned from"
        sets = [("real against real", values, captions, what, "")]
        draws_bits = any(model.likelihood and model.likelihood.space == "binary" for model in arms)
        if draws_bits and not self.dataset.options["binarize"]:
            words = f"the same, pixels of at least {BINARY_THRESHOLD} white, the others black"
            sets.append(("real as bits", Transform(binarize="threshold").all(values), captions, words, ""))
        if "captions" in {row.name for row in self.requested.families(SAMPLES, None, False, captions is not None)}:
            side = self.dataset.spec.image_shape[0]
            shrunk = Transform(image_size=side).all(Transform(image_size=side // 2).all(values))
            others = [*captions[1:], *captions[:1]]
            sets += [
                (f"real at {side // 2}x{side // 2}", shrunk, captions, "the same, shrunk and enlarged", "captions"),
                ("real, others' captions", values, others, "the same with each other's captions", "captions"),
            ]
        made = []
        notes = {key: "a score of models" for key, family in FAMILY_OF.items() if family in MODELS}
        notes["memorization"] = "training examples are their own copies"
        for name, some, told, note, only in sets:
            scores = self.of_samples(name, some, labels, told, without="memorization", only=only)
            row = {
                "name": name,
                "kind": "real",
                "samples": len(some),
                "values": {key: [finite(value)] for key, value in scores.items()},
                "note": note,
                "notes": dict.fromkeys(FAMILY_OF, f"a row for {only}") if only else notes,
            }
            made.append(row)
        return made

    def model_rows(self, name: str, run: Run) -> tuple[dict, dict]:
        """Rows of a trained model and of the same model before training, with one value per seed."""
        plan = run.plan
        entry = models.MODELS.get(plan.model_name)
        labeled = "label" in plan.model.conditions
        shared = {
            "model": plan.model_name,
            "title": f"{entry.title} ({entry.paper})" if entry else plan.model_name,
            "samples": self.num if plan.model.sampler else None,
            "sampling": self._sampling_note(plan.model),
            "config": plan.described()["config"],
            "given": {field: plan.described()["config"][field] for field in given(plan.config)},
            "notes": self.requested.absent(plan.model, labeled) | likelihood_notes(plan.model),
        }
        changes = "; ".join(environment_changes(run.path, plan).values())
        finished = (run.path / folder.RESULT).exists()
        untrained = self.values(plan, f"{name}, untrained", initial(plan), set())
        values = self.values(plan, name, run.state, set(run.diverged))
        trained = {
            "name": name,
            "kind": "trained",
            "values": {key: values.get(key, [None] * len(plan.settings.seeds)) for key in untrained},
            "steps": run.step,
            "checkpoints": list(run.chosen) or None,
            "seconds": folder.read_result(run.path)["seconds"] if finished else None,
            "diverged": sorted(run.diverged),
            "note": f"trained in another environment ({changes})" if changes else "",
            "digests": {str(seed): digest for seed, digest in run.digests().items()},
            **shared,
        }
        return trained, {"name": f"{name}, untrained", "kind": "untrained", "values": untrained, **shared}

    def values(self, plan: Plan, name: str, state: State, diverged: set[int]) -> dict[str, list[float | None]]:
        """All scores, one per seed in order; None for a seed that diverged, or whose score is not finite."""
        seeds = plan.settings.seeds
        keys = engine.all_streams(seeds).evaluate
        keys = jax.vmap(jax.random.fold_in, (0, None))(keys, self.scoring.sampling_seed)
        keys = jax.vmap(jax.random.split)(keys)
        going = np.flatnonzero([seed not in diverged for seed in seeds])
        if not len(going):
            return {}
        if diverged:
            keys, state = engine.of_seed((keys, state), going)
        of_seeds: dict[str, list[float]] = {}
        given = ["label" in plan.model.conditions, "caption" in plan.model.conditions]
        if plan.model.sampler and self.requested.families(SAMPLES, None, *given):
            self._bar.say(f"{name}: sampling")
            draw = rejecting_sampler(plan.model, self.judge, self._rejection(plan.model))
            drawn = draw(keys[:, 0], state, self.num, self._conditions(plan, going))
            labels, tokens = (drawn.get(entry, [None] * len(going)) for entry in ("label", "caption"))
            for seed, some, *told in zip(going, drawn[self.entry], labels, map(self._captions, tokens), strict=True):
                for key, score in self.of_samples(f"{name}, seed {seeds[seed]}", some, *told).items():
                    of_seeds.setdefault(key, []).append(score)
        of_seeds |= self.of_model(plan, name, tuple(seeds[seed] for seed in going), keys[:, 1], state)
        values: dict[str, list[float | None]] = {key: [None] * len(seeds) for key in of_seeds}
        for key, scores in of_seeds.items():
            for seed, score in zip(going, scores, strict=True):
                values[key][seed] = finite(score)
        return values

    def _sampling_note(self, model: Model) -> str:
        """Words on how samples are drawn; "" if none are."""
        if model.sampler is None:
            return ""
        return ", ".join(filter(None, (model.sampler.note, rejection_note(self._rejection(model)))))

    def _rejection(self, model: Model) -> int:
        """Draws of which one is kept; 1 for a model that is not given labels."""
        return self.scoring.rejection if "label" in model.conditions else 1

    def _conditions(self, plan: Plan, going: np.ndarray) -> dict[str, np.ndarray]:
        """Conditions of these seeds' samples: entries of randomly drawn training examples, [seeds, num, ...]."""
        names, train = plan.model.conditions, self.dataset.train
        if not names:
            return {}
        allowed = np.arange(self.dataset.spec.num_examples)
        if "label" in names:
            allowed = np.flatnonzero(np.asarray(train["label"][:]) >= 0)
        if "caption" in names:
            allowed = allowed[np.asarray(train["caption"][:])[allowed].any(axis=1)]
        rows = []
        for seed in (plan.settings.seeds[i] for i in going):
            rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([self.scoring.sampling_seed, seed])))
            rows.append(rng.choice(allowed, self.num))
        return {name: np.stack([train[name][some] for some in rows]) for name in names}

    def results(self, rows: list[dict[str, Any]], seeds: tuple[int, ...]) -> dict[str, Any]:
        """Returns the table as a JSON-able dict.

        Returns:
            {"seeds", "metrics": the columns, "rows", "dataset", "samples", "scoring", "extractor", "judge",
            "warnings": sentences}; rows as `jaxgen.report.page.write_report` describes them.
        """
        keys = {key for row in rows for key in row["values"] if key in FAMILY_OF}
        doubts = [self.requested.doubts(row, seeds) for row in rows]
        rows = [row | {"doubts": found} if found else row for row, found in zip(rows, doubts, strict=True)]
        return {
            "seeds": list(seeds),
            "metrics": [metric._asdict() | {"bounds": list(metric.bounds)} for metric in self.requested.columns(keys)],
            "rows": rows,
            "dataset": {
                "name": self.dataset.name,
                "options": {name: self.dataset.options[name] for name in given(Options(**self.dataset.options))},
                "note": self.dataset.note,
                "fingerprint": self.dataset.fingerprint,
                "train": self.dataset.spec.num_examples,
                "test": len(self.dataset.test[self.entry]),
            },
            "left_out": self.requested.left_out(rows),
            "samples": self.num,
            "scoring": dataclasses.asdict(self.scoring) | {"metrics": list(self.requested.names)},
            "extractor": self.extractor and self.extractor.described(),
            "judge": self.judge and self.judge.described(),
            "warnings": [*self.requested.warnings(keys), *self.requested.doubtful(rows)],
        }


def finite(value: float) -> float | None:
    """Returns None, a missing score, for a number that JSON cannot hold (infinity, NaN)."""
    return value if math.isfinite(value) else None


def _with_all_labels(dataset: Dataset) -> Dataset:
    """Returns the dataset with the training labels that its option `labels` hides from models."""
    if not dataset.options.get("labels"):
        return dataset
    return dataset._replace(train={**dataset.train, "label": dataset.train[ALL_LABELS]})


def _still(dataset: Dataset) -> Dataset:
    """Returns the dataset with dynamically binarized training images drawn once, as the other splits' are."""
    if dataset.options["binarize"] != "dynamic":
        return dataset
    images = Transform(binarize="dynamic").all(dataset.train["image"][:])
    return dataset._replace(train={**dataset.train, "image": images})


@contextlib.contextmanager
def _told(family: str) -> Iterator[None]:
    """Turns a metric's ValueError into a UserError that names the metric."""
    try:
        yield
    except ValueError as error:
        raise UserError(f"metric {family}: {error}") from error


def initial(plan: Plan) -> State:
    """State of every seed before training."""
    return engine.initial_state(plan.model, engine.all_streams(plan.settings.seeds).init)
