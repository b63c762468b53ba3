"""The table of scores: the families of metrics that `--metrics` names, and the columns that they fill."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from jaxgen.data import Dataset
from jaxgen.evaluation import of_models, of_samples
from jaxgen.evaluation.extractor import Extractor
from jaxgen.evaluation.options import Scoring
from jaxgen.model import FEW, Model

SPACES = {
    "binary": "of the test images as bits (pixels >= 128)",
    "uint8": "of the test images' 256 levels",
    "continuous": "density of the test images with pixels in [0, 1], not dequantised",
}
"""What the log-likelihoods of each space are of."""


class There(NamedTuple):
    """What there is of what metrics need."""

    dataset: Dataset
    extractor: Extractor | None  # None of both where no metric asked for rests on networks
    judge: Extractor | None
    model: Model | None = None  # None of examples that another system made
    labelled: bool = True  # whether the samples have labels of their own

    @property
    def labels(self) -> bool:
        """Whether the real images have labels."""
        return {"image", "label"} <= set(self.dataset.spec.entries)


class Family(NamedTuple):
    """Metrics that are computed together."""

    score: Callable
    about: str
    lacks: Callable[[There], str] = lambda there: ""  # why there is no number; "" where there is one
    usual: bool = False  # whether it is in a table when no metrics are named
    networks: bool = False  # whether it rests on the extractor or the judge
    least: int = 1  # samples, at least


def _judge(there: There) -> str:
    if there.dataset.spec.subject != "image":
        return "the data are no images that a judge could learn"
    return "" if there.judge else "the data have no labels that a judge could learn"


def _modes(there: There) -> str:
    return _judge(there) if there.dataset.spec.mixture is None else ""


def _logits(there: There) -> str:
    return "" if there.extractor.logits else f"the extractor {there.extractor.name} gives no logits"


def _labels(there: There) -> str:
    if not there.labels:
        return "the data have no labels"
    return "" if there.labelled else "its samples have no labels"


def _likelihood(there: There) -> str:
    return "" if there.model.likelihood else "it has no likelihood"


def _densities(there: There) -> str:
    latents = there.model.latents
    given = latents and latents.prior.log_prob and latents.log_likelihood
    return "" if given else "it has no densities of latents"


def _annealed(there: There) -> str:
    if words := _densities(there):
        return words
    return "its latents are discrete" if there.model.latents.prior.kind == "discrete" else ""


def _inferred(there: There) -> str:
    return _densities(there) or ("" if there.model.latents.posterior else "it infers no distribution of latents")


def _encodes(there: There) -> str:
    latents = there.model.latents
    return "" if latents and latents.encode else "it does not encode"


def _reconstructs(there: There) -> str:
    return _encodes(there) or ("" if there.dataset.spec.subject == "image" else "its reconstructions are no images")


def _classifies(there: There) -> str:
    return "" if "label" in there.model.predict else "it does not classify"


def _codes(there: There) -> str:
    if "code" not in there.model.predict:
        return "it infers no categorical code"
    return "" if there.labels else "the data have no labels"


SAMPLES = {
    "fd": Family(
        of_samples.fd, "Fréchet distance of features (FID, by Inception-v3)", usual=True, networks=True, least=2
    ),
    "fd_infinity": Family(
        of_samples.fd_infinity, "the same, extrapolated to infinitely many samples", networks=True, least=30
    ),
    "kid": Family(
        of_samples.kid, "kernel distance: unbiased squared MMD of features, cubic kernel", networks=True, least=2
    ),
    "neighbors": Family(
        of_samples.neighbors,
        "precision, recall, density, coverage by 5 nearest neighbours",
        usual=True,
        networks=True,
        least=of_samples.K + 1,
    ),
    "inception_score": Family(
        of_samples.inception,
        "exp of the information that a sample has of its class",
        _logits,
        networks=True,
        least=of_samples.SPLITS,
    ),
    "recognised": Family(
        of_samples.recognised, "share that a judge is sure of, and its classes", _judge, usual=True, networks=True
    ),
    "modes": Family(of_samples.modes, "modes found, and KL of their shares from equal ones", _modes, networks=True),
    "two_sample": Family(
        of_samples.two_sample, "held-out accuracy of a classifier of real against fake", networks=True, least=2
    ),
    "classification_accuracy": Family(
        of_samples.classification_accuracy,
        "accuracy on real images of a classifier that learned from samples only",
        _labels,
    ),
    "nearest_neighbor": Family(
        of_samples.nearest_neighbor, "error of 1-NN among samples' pixels on real images", _labels
    ),
    "agreement": Family(
        of_samples.agreement,
        "share on which a judge names the asked class, and recall within classes",
        lambda there: _judge(there) or _labels(there),
        networks=True,
    ),
    "parzen": Family(of_samples.parzen, "Parzen window log-likelihood, historical"),
    "memorisation": Family(of_samples.memorised, "whether samples lie closer to the training set than test examples"),
    "diversity": Family(
        of_samples.diversity, "of pairs within a class: feature distance, MS-SSIM", _judge, networks=True, least=2
    ),
}
"""Families that score examples, whatever made them."""

MODELS = {
    "log_prob": Family(
        of_models.log_prob,
        "log-likelihood: exact or a bound, as the model has it",
        _likelihood,
        usual=True,
    ),
    "iwae": Family(of_models.iwae, "importance-weighted bound of the log-likelihood", _inferred),
    "ais": Family(of_models.ais, "log-likelihood by annealed importance sampling", _annealed),
    "active_units": Family(
        of_models.active_units,
        "latents whose posterior mean varies",
        lambda there: _inferred(there) or _encodes(there),
    ),
    "rate_distortion": Family(of_models.rate_distortion, "KL(q(z|x) || p(z)) and E_q[-log p(x|z)]", _inferred),
    "reconstruction": Family(
        of_models.reconstruction,
        "errors of decoded codes: MSE, PSNR, SSIM",
        _reconstructs,
    ),
    "accuracy": Family(
        of_models.accuracy,
        "share of the test images classified rightly",
        _classifies,
        True,
    ),
    "codes": Family(of_models.codes, "error of an inferred categorical code as a classifier", _codes),
}
"""Families that score models."""

FAMILIES = SAMPLES | MODELS
"""By the names that `--metrics` takes."""


class Column(NamedTuple):
    """What is fixed of a column of a table of scores."""

    family: str  # that fills it
    better: str | None  # "lower", "higher"; None where neither is
    digits: int  # printed after the point


COLUMNS = {
    "fd": Column("fd", "lower", 2),
    "fd_infinity": Column("fd_infinity", "lower", 2),
    "kid": Column("kid", "lower", 5),
    "precision": Column("neighbors", "higher", 3),
    "recall": Column("neighbors", "higher", 3),
    "density": Column("neighbors", "higher", 3),
    "coverage": Column("neighbors", "higher", 3),
    "inception_score": Column("inception_score", "higher", 3),
    "recognised": Column("recognised", "higher", 3),
    "classes": Column("recognised", "higher", 1),
    "modes": Column("modes", "higher", 1),
    "modes_kl": Column("modes", "lower", 4),
    "high_quality": Column("modes", "higher", 4),
    "collapsed": Column("modes", "lower", 2),
    "two_sample": Column("two_sample", "lower", 3),
    "two_sample_p": Column("two_sample", "higher", 4),
    "classification_accuracy": Column("classification_accuracy", "higher", 4),
    "nearest_neighbor": Column("nearest_neighbor", "lower", 4),
    "agreement": Column("agreement", "higher", 4),
    "class_recall": Column("agreement", "higher", 3),
    "parzen": Column("parzen", "higher", 1),
    "memorisation": Column("memorisation", None, 3),
    "feature_diversity": Column("diversity", None, 3),
    "ms_ssim": Column("diversity", None, 3),
    **{f"log_prob_{space}": Column("log_prob", "higher", 1) for space in SPACES},
    "bits_per_dimension": Column("log_prob", "lower", 3),
    **{f"iwae_{space}": Column("iwae", "higher", 2) for space in SPACES},
    **{f"ais_{space}": Column("ais", "higher", 2) for space in SPACES},
    "active_units": Column("active_units", None, 1),
    "rate": Column("rate_distortion", None, 2),
    **{f"distortion_{space}": Column("rate_distortion", "lower", 2) for space in SPACES},
    "mse": Column("reconstruction", "lower", 5),
    "psnr": Column("reconstruction", "higher", 2),
    "ssim": Column("reconstruction", "higher", 4),
    "mse_binary": Column("reconstruction", "lower", 5),
    "psnr_binary": Column("reconstruction", "higher", 2),
    "ssim_binary": Column("reconstruction", "higher", 4),
    "accuracy": Column("accuracy", "higher", 4),
    "code_error": Column("codes", "lower", 4),
}
"""In the order of a table. A log-likelihood, or an error of pixels, has a column for each space: no two compare."""

SHARES = (
    "precision", "recall", "coverage", "recognised", "high_quality", "classification_accuracy", "agreement",
    "class_recall", "accuracy",
)  # fmt: skip
"""Columns from 0 to 1 on all data, of which means over several datasets can be taken."""

RATES = ("collapsed",)
"""Columns in which a seed has 1 or 0: their means are shares of the seeds."""


class Metric(NamedTuple):
    """A column of one table."""

    key: str
    title: str
    better: str | None
    digits: int
    note: str


def columns(there: There, scoring: Scoring, num: int, keys: set[str]) -> list[Metric]:
    """The columns of these keys, in the order of a table; `num` samples are scored."""
    words = _words(there, scoring, num)
    more = 2 if there.dataset.spec.subject == "point" else 0  # distances of points are of points' size
    return [
        Metric(key, words[key][0], column.better, column.digits + more * key.startswith("fd"), words[key][1])
        for key, column in COLUMNS.items()
        if key in keys
    ]


def _words(there: There, scoring: Scoring, num: int) -> dict[str, tuple[str, str]]:
    """By column, its title and what a reader must know of it."""
    extractor = there.extractor or Extractor("no network", "", np.asarray)
    tested = len(next(iter(there.dataset.test.values())))
    real = f"the {tested:,} test examples"
    both = f"{num:,} samples and {real}"
    alike = ", in every row alike" if num <= there.dataset.spec.num_examples else ", real ones being fewer,"
    name = extractor.name.removesuffix(" extractor")
    short = "" if extractor.fid else f"-{name}"
    network = f"the features of {extractor.name}"
    size = of_samples.subset_size(tested, num)
    fd = "FID" if extractor.fid else f"FD-{name}"
    caution = "" if extractor.fid else " It is not FID, which uses other features."
    judge = "the judge, a classifier trained apart from the extractor on real images,"
    right = f" (right on {there.judge.accuracy:.2%} of real images" if there.judge and there.judge.accuracy else ""
    right += right and (", channel by channel)" if (there.dataset.spec.num_classes or 0) == 1000 else ")")
    some = f"{scoring.examples:,} evenly spaced" if (scoring.examples or tested) < tested else "all"
    annealed = f"{min(scoring.examples or of_models.AIS_EXAMPLES, tested):,} evenly spaced"
    what = {"binary": "bits", "uint8": "levels", "continuous": "density"}
    points = there.dataset.spec.mixture is not None
    space, by = ("in the points' unit", "coordinates") if points else ("pixels in [0, 1]", "pixels")
    modes = (
        f"Modes of the mixture with one of {num:,} samples within 3 standard deviations."
        if points
        else f"Classes that {judge} names among {num:,} samples{right}; its errors find modes that are not there: "
        "read it beside the row of real images. Of 1,000 classes published figures are of 26,000 samples (--samples "
        "26000)."
    )
    return {
        "fd": (
            fd,
            f"Fréchet distance between Gaussians fitted to {network}, of {both}{alike}. It falls with the "
            f"number of samples: compare rows of one table only.{caution}",
        ),
        "fd_infinity": (
            f"{fd} ∞",
            f"The same by regression on 1/N over subsets of {num:,} samples, at 1/N = 0: without the bias of few "
            f"samples, with that of {real}.",
        ),
        "kid": (
            f"KID{short}",
            f"Kernel distance: unbiased squared MMD of {network} with a cubic kernel, mean of 100 subsets of {size:,} "
            f"of {both}.",
        ),
        **{
            key: (
                key,
                f"{words}; balls reach to the {of_samples.K}th nearest neighbour, in {network}, of {both}. Read it "
                "beside the row of real images.",
            )
            for key, words in {
                "precision": "Share of samples within a ball of a real one",
                "recall": "Share of real ones within a ball of a sample",
                "density": "Mean number of real balls a sample lies in, over the number of neighbours; 1 where equal",
                "coverage": "Share of real ones whose ball holds a sample",
            }.items()
        },
        "inception_score": (
            "IS" if extractor.fid else f"IS-{name}",
            f"exp E[KL(p(y|x) || p(y))] by the logits of {extractor.name}, mean of {of_samples.SPLITS} splits of "
            f"{num:,} samples. It knows no real images.",
        ),
        "recognised": (
            "recognised",
            f"Share of the samples on which {judge} is at least {of_samples.SURE:.0%} sure of the class. It can be "
            "sure of what is no such image at all: read it beside the classes and the distances.",
        ),
        "classes": ("classes", "Classes among the recognised samples."),
        "modes": ("modes", modes),
        "modes_kl": ("KL of modes", "KL divergence of the modes' shares from equal ones, nats."),
        "high_quality": ("high quality", "Share of points within 3 standard deviations of a mode."),
        "collapsed": (
            "collapsed",
            f"Share of the seeds whose samples fall on fewer than {FEW:.0%} of the modes; its interval is "
            "Clopper and Pearson's.",
        ),
        "two_sample": (
            "two-sample",
            "Accuracy on held-out examples of a small network that tells samples from test examples by "
            f"{network}; 0.5 where it cannot.",
        ),
        "two_sample_p": ("its p", "Probability of that accuracy or more where both are alike."),
        "classification_accuracy": (
            "CAS",
            f"Classification accuracy score: accuracy on {real} of a classifier trained on {num:,} samples with their "
            "labels.",
        ),
        "nearest_neighbor": (
            "1-NN error",
            f"Error on {real} of the nearest neighbour among {num:,} samples with their labels, by pixels.",
        ),
        "agreement": (
            "agreement",
            f"Share of the samples on which {judge} names the class that was asked for{right}. One image a class would "
            "do: read it beside the recall within classes.",
        ),
        "class_recall": (
            "class recall",
            f"Mean over the classes of the share of a class's test images within a ball of one of its samples; balls "
            f"reach to the {of_samples.K}th nearest neighbour, in {network}, of {both}. Read it beside the row of real "
            "images.",
        ),
        "parzen": (
            "Parzen",
            f"Log-likelihood, nats, of {real} under Gaussian windows on {num:,} samples, {space}, their width "
            "chosen on the validation split. Historical: it says little of quality.",
        ),
        "memorisation": (
            "closer to train",
            f"Probability that a sample lies closer, by {by}, to its nearest training example than a test example "
            "does to its own: 0.5 of new ones, towards 1 of copies.",
        ),
        "feature_diversity": (
            "pair distance",
            f"Mean distance, in {network}, of two samples of one class: compare it with that of real ones.",
        ),
        "ms_ssim": (
            "MS-SSIM",
            "Mean structural similarity, over scales, of two samples of one class: over that of real ones they are "
            "too alike.",
        ),
        **{
            f"log_prob_{space}": (f"log p, {space}", f"Mean log-likelihood in nats, {words}.")
            for space, words in SPACES.items()
        },
        "bits_per_dimension": ("bits/dim", "The same as bits a pixel and channel."),
        **{
            f"iwae_{space}": (
                f"IWAE, {what[space]}",
                f"Importance-weighted bound of the mean log-likelihood in nats, {words}; K = "
                f"{scoring.importance_samples:,}, {some} of them.",
            )
            for space, words in SPACES.items()
        },
        **{
            f"ais_{space}": (
                f"AIS, {what[space]}",
                f"Mean log-likelihood in nats, {words}, by annealed importance sampling with "
                f"{scoring.temperatures:,} temperatures: a stochastic lower bound, of {annealed} ones.",
            )
            for space, words in SPACES.items()
        },
        "active_units": ("active units", "Latents whose posterior mean has a variance over 0.01."),
        "rate": ("rate", "E[KL(q(z|x) || p(z))] by one latent a test image, nats."),
        **{
            f"distortion_{space}": (
                f"distortion, {what[space]}",
                f"E[-log p(x|z)] in nats by one latent a test image, {words}.",
            )
            for space, words in SPACES.items()
        },
        **{
            key + of: (title + short_words, f"{words} of reconstructed test images{more}.")
            for key, title, words in (
                ("mse", "MSE", "Mean squared error, pixels in [0, 1],"),
                ("psnr", "PSNR", "Peak signal-to-noise ratio, dB,"),
                ("ssim", "SSIM", "Structural similarity"),
            )
            for of, short_words, more in (("", "", ""), ("_binary", ", bits", ", which are bits (pixels >= 128)"))
        },
        "accuracy": ("accuracy", "Share of the test images classified rightly."),
        "code_error": (
            "code error",
            f"Error on {real} of the inferred categorical code, each category read as the class most frequent among "
            "the training images that have it.",
        ),
    }


def likelihood_notes(model: Model) -> dict[str, str]:
    """By column of the log-likelihoods: what a reader must know, and why there is no number."""
    if model.likelihood is None:
        return dict.fromkeys([f"log_prob_{space}" for space in SPACES], "it has no likelihood")
    own = f"{model.likelihood.kind}; {model.likelihood.note}"
    other = f"its likelihood is of {model.likelihood.space} images"
    return {f"log_prob_{space}": own if model.likelihood.space == space else other for space in SPACES}
