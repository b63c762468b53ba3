"""The table of metrics: one row per family, with its columns. Pages, terminals and docs read these rows.

To add a metric, write its function in `jaxgen.metrics` and add a row.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np

from jaxgen.data import Dataset
from jaxgen.errors import UserError, did_you_mean
from jaxgen.evaluation import of_models, of_samples
from jaxgen.evaluation.extractor import Extractor
from jaxgen.evaluation.options import Scoring
from jaxgen.metrics.captions import ATTRIBUTES, DATASETS
from jaxgen.metrics.evidence import CHAINS, FEW_CHAINS
from jaxgen.metrics.frechet import frechet_distance
from jaxgen.metrics.kernel import gaussian_mmd, kernel_distance, subset_size
from jaxgen.metrics.neighbors import clipped_scores, memorization, nearest_neighbor_error, neighbor_scores
from jaxgen.metrics.patches import SIDE, sliced_wasserstein
from jaxgen.metrics.vendi import vendi_score
from jaxgen.model import FEW, Model
from jaxgen.training.symptoms import ALIKE

SPACES = {
    "binary": "of the test images as bits (pixels >= 128)",
    "uint8": "of the test images' 256 levels",
    "continuous": "density of the test images with pixels in [0, 1], not dequantized",
}
"""Map from space to the examples of its log-likelihoods."""

NOT_DEQUANTIZED = (
    "a density of levels that are not dequantized, which grows without bound as a model concentrates on them: "
    "use {}, of models with likelihood logistic or categorical"
)

SHORT = {"binary": "bits", "uint8": "levels", "continuous": "density"}

SHARE = (0.0, 1.0)
"""Bounds of shares, rates, accuracies and probabilities."""


class Context(NamedTuple):
    """Inputs available to a metric."""

    dataset: Dataset
    extractor: Extractor | None  # both None if no requested metric uses networks
    judge: Extractor | None
    model: Model | None = None  # None for examples of another system
    labeled: bool = True  # True if the samples have labels of their own
    captioned: bool = True  # True if they have captions of their own

    @property
    def labels(self) -> bool:
        """True if the real examples are images with labels."""
        return self.dataset.spec.subject == "image" and "label" in self.dataset.spec.entries


class Column(NamedTuple):
    """A column of a table of scores."""

    key: str
    title: str  # {names} in braces are filled in from `placeholders`, here and in the note
    note: str  # what a reader must know
    better: Literal["lower", "higher"] | None = None
    digits: int = 3  # printed decimals
    bounds: tuple[float | None, float | None] = (None, None)  # smallest and largest possible value
    rate: bool = False  # each seed scores 1 or 0, so the mean is a share of the seeds
    incomparable: str = ""  # reason why nothing is decided by it, and what to use; "" for others


class Family(NamedTuple):
    """Metrics that are computed together: a row of the table."""

    name: str  # as `--metrics` takes it
    about: str
    columns: tuple[Column, ...]
    score: Callable[..., dict[str, Any]]
    """Scores by column. Of samples: (sides, fake) -> one score each. Of models: (model, keys [seeds], state, dataset,
    scoring) -> the scores of all seeds."""
    lacks: Callable[[Context], str] = lambda context: ""  # reason why there is no number; "" if there is one
    usual: bool = False  # True if it is in a table when no metrics are named
    pixelwise: bool = False  # True if it is usual too for images that there is no extractor for
    of_meshes: bool = False  # True if it is usual for meshes
    many: bool = False  # True if it says little unless there are more examples than features
    networks: bool = False  # True if it uses the extractor or the judge
    least: int = 1  # minimum number of samples
    needs: str = ""  # in a word or two, for `jaxgen metrics`


class Doubt(NamedTuple):
    """A value below which other scores of the same samples or model mislead."""

    key: str  # of the value; it may have no column
    limit: float
    columns: tuple[str, ...]  # keys of the scores
    words: str


MISLED = ("precision", "density", "clipped_density", "recognized")
"""Columns that can be perfect for samples that are all alike."""

DOUBTS = (
    Doubt("spread", ALIKE, MISLED, "no sign of quality, as the samples are nearly all alike"),
    Doubt(
        "ais_chains",
        FEW_CHAINS,
        tuple(f"ais_{space}" for space in SPACES),
        f"may be nats too low, as fewer than {FEW_CHAINS} chains carry it: raise --temperatures",
    ),
)

WEAK = 0.8
"""Accuracy on real images below which a classifier's features and judgments are doubtful."""


def _patches(context: Context) -> str:
    if context.dataset.spec.subject != "image":
        return "the data are no images"
    small = min(context.dataset.spec.image_shape[:2]) < SIDE
    return f"the images are smaller than {SIDE}x{SIDE}" if small else ""


def _judge(context: Context) -> str:
    if context.dataset.spec.subject != "image":
        return "the data are not images, which a judge needs"
    return "" if context.judge else "the data have no labels, which a judge needs"


def _modes(context: Context) -> str:
    return "" if context.dataset.spec.mixture else _judge(context)


def _features(context: Context) -> str:
    if context.extractor:
        return ""
    if context.dataset.spec.subject != "image":
        return "the data are no images, whose features it compares"
    return "the data have no labels to train an extractor on: --extractor FILE names one, such as Inception-v3"


def _logits(context: Context) -> str:
    if words := _features(context):
        return words
    return "" if context.extractor.logits else f"the extractor {context.extractor.name} gives no logits"


def _labels(context: Context) -> str:
    if not context.labels:
        return "the data have no labels"
    return "" if context.labeled else "its samples have no labels"


def _captions(context: Context) -> str:
    if "caption" not in context.dataset.spec.entries or context.dataset.spec.subject != "image":
        return "the data have no captions"
    return "" if context.captioned else "its samples have no captions"


def _scenes(context: Context) -> str:
    known = context.dataset.name in DATASETS
    return "" if known else f"captions can be checked of {' and '.join(DATASETS)} only"


def _checkable_captions(context: Context) -> str:
    if words := _captions(context) or _scenes(context):
        return words
    return "" if context.dataset.spec.image_shape[2] == 3 else "the images have no colors"


def _likelihood(context: Context) -> str:
    return "" if context.model.likelihood else "it has no likelihood"


def _densities(context: Context) -> str:
    latents = context.model.latents
    given = latents and latents.prior.log_prob and latents.log_likelihood
    return "" if given else "it has no densities of latents"


def _annealed(context: Context) -> str:
    if words := _densities(context):
        return words
    return "its latents are discrete" if context.model.latents.prior.kind == "discrete" else ""


def _inferred(context: Context) -> str:
    return _densities(context) or ("" if context.model.latents.posterior else "it infers no distribution of latents")


def _inferred_with_noise(context: Context) -> str:
    return _annealed(context) or _inferred(context)  # an encoder's discrete codes are all the same draw


def _encodes(context: Context) -> str:
    latents = context.model.latents
    return "" if latents and latents.encode else "it does not encode"


def _reconstructs(context: Context) -> str:
    return _encodes(context) or ("" if context.dataset.spec.subject == "image" else "it reconstructs no images")


def _meshes(context: Context) -> str:
    return "" if context.dataset.spec.subject == "mesh" else "the data are no meshes"


def _encodes_meshes(context: Context) -> str:
    return _meshes(context) or _encodes(context)


def _paths_of_meshes(context: Context) -> str:
    if words := _encodes_meshes(context):
        return words
    return "its latents have conditions" if context.model.conditions else ""


def _classifies(context: Context) -> str:
    return "" if "label" in context.model.predict else "it does not classify"


def _writes(context: Context) -> str:
    return "" if "caption" in context.model.predict else "it writes no captions"


def _writes_of_scenes(context: Context) -> str:
    return _scenes(context) or _writes(context)


def _codes(context: Context) -> str:
    if "code" not in context.model.predict:
        return "it infers no categorical code"
    return "" if context.labels else "the data have no labels"


def _by_space(key: str, title: str, note: str, better: Literal["lower", "higher"], digits: int) -> tuple[Column, ...]:
    """Returns a column for each space: log-likelihoods of different spaces are not comparable."""
    columns = []
    for space, about in SPACES.items():
        named = title.replace("SPACE", space).replace("SHORT", SHORT[space])
        words = NOT_DEQUANTIZED.format(f"{key}_uint8") if space == "continuous" else ""
        columns.append(
            Column(f"{key}_{space}", named, note.replace("SPACE", about), better, digits, incomparable=words)
        )
    return tuple(columns)


NEIGHBORS = (
    "; balls reach to the {k}th nearest neighbor, in {network}, of {both}. Read it beside the row of real images."
)

CLIPPED = "; the score reads as the share of good samples" + NEIGHBORS

SAMPLES = (
    Family(
        "fd",
        "Fréchet distance of features (FID, by Inception-v3)",
        (
            Column(
                "fd",
                "{fd}",
                "Fréchet distance between Gaussians fitted to {network}, of {both}{alike}. It falls with the number of "
                "samples: compare rows of one table only.{caution}",
                "lower",
                2,
            ),
        ),
        lambda sides, fake: {"fd": frechet_distance(sides.test.features, fake.features)},
        _features,
        usual=True,
        networks=True,
        least=2,
        needs="features",
        many=True,
    ),
    Family(
        "fd_infinity",
        "the same, extrapolated to infinitely many samples",
        (
            Column(
                "fd_infinity",
                "{fd} ∞",
                "The same by regression on 1/N over subsets of {num:,} samples, at 1/N = 0: without the bias of few "
                "samples, with that of {real}.",
                "lower",
                2,
            ),
            Column(
                "fd_infinity_error",
                "{fd} ∞ error",
                "Standard error of that, over draws of {num:,} samples; {real} count as fixed.",
                None,
                2,
                (0.0, None),
            ),
        ),
        of_samples.fd_infinity,
        _features,
        networks=True,
        least=30,
        needs="features",
    ),
    Family(
        "kid",
        "kernel distance: unbiased squared MMD of features, cubic kernel",
        (
            Column(
                "kid",
                "KID{short}",
                "Kernel distance: unbiased squared MMD of {network} with a cubic kernel, mean of 100 subsets of "
                "{subset:,} of {both}.",
                "lower",
                5,
            ),
        ),
        lambda sides, fake: {
            "kid": kernel_distance(
                sides.test.features,
                fake.features,
                subset_size=subset_size(len(sides.test.values), len(fake.values)),
                seed=sides.seed,
            ).value
        },
        _features,
        networks=True,
        least=2,
        needs="features",
        many=True,
    ),
    Family(
        "mmd",
        "CMMD's distance on features of any network: Gaussian kernel",
        (
            Column(
                "mmd",
                "MMD{short}",
                "Unbiased squared MMD, times 1,000, of {network}, scaled to length 1, of {both}, with a Gaussian "
                "kernel of width 10. It is CMMD only by CLIP's features, and sees little more than their mean.",
                "lower",
                4,
            ),
        ),
        lambda sides, fake: {"mmd": gaussian_mmd(sides.test.features, fake.features)},
        _features,
        networks=True,
        least=2,
        needs="features",
    ),
    Family(
        "sliced_wasserstein",
        "distance of patches at several scales: sees noise and blur",
        (
            Column(
                "sliced_wasserstein",
                "SWD",
                "Sliced Wasserstein distance, times 1,000, of patches of {both}, mean of the levels of a Laplacian "
                "pyramid. It needs no network and sees noise and blur, which a classifier's features hardly do.",
                "lower",
                1,
                (0.0, None),
            ),
        ),
        lambda sides, fake: {
            "sliced_wasserstein": sliced_wasserstein(sides.test.values, fake.values, seed=sides.seed).mean()
        },
        _patches,
        usual=True,
        pixelwise=True,
        needs="samples",
    ),
    Family(
        "neighbors",
        "precision, recall, density, coverage by 5 nearest neighbors",
        (
            Column(
                "precision", "precision", "Share of samples within a ball of a real one" + NEIGHBORS, "higher", 3, SHARE
            ),
            Column("recall", "recall", "Share of real ones within a ball of a sample" + NEIGHBORS, "higher", 3, SHARE),
            Column(
                "density",
                "density",
                "Mean number of real balls a sample lies in, over the number of neighbors; 1 where equal" + NEIGHBORS,
                "higher",
                3,
                (0.0, None),
            ),
            Column(
                "coverage", "coverage", "Share of real ones whose ball holds a sample" + NEIGHBORS, "higher", 3, SHARE
            ),
        ),
        lambda sides, fake: neighbor_scores(sides.test.features, fake.features, of_samples.K)._asdict(),
        _features,
        usual=True,
        networks=True,
        least=of_samples.K + 1,
        needs="features",
    ),
    Family(
        "clipped",
        "density, coverage calibrated to shares of good samples",
        (
            Column(
                "clipped_density",
                "clipped density",
                "Mean number of real balls a sample lies in, of balls no wider than the median one and of {k} at most, "
                "over that of the real ones; 1 at most" + CLIPPED,
                "higher",
                3,
                SHARE,
            ),
            Column(
                "clipped_coverage",
                "clipped coverage",
                "Share of {num:,} samples that, drawn from the real distribution, would fill the real balls, of {k} "
                "samples each, as these do" + CLIPPED,
                "higher",
                3,
                SHARE,
            ),
        ),
        lambda sides, fake: clipped_scores(sides.test.features, fake.features, of_samples.K)._asdict(),
        _features,
        networks=True,
        least=of_samples.K + 1,
        needs="features",
    ),
    Family(
        "vendi",
        "effective number of different samples",
        (
            Column(
                "vendi",
                "Vendi{short}",
                "Vendi score: effective number of different samples among {num:,}, by the cosines of {network}. It "
                "uses no real images, and noise may have more: compare it with that of real ones.",
                "higher",
                2,
                (1.0, None),
            ),
        ),
        lambda sides, fake: {"vendi": vendi_score(fake.features)},
        _features,
        networks=True,
        needs="features",
    ),
    Family(
        "inception_score",
        "exp of the information that a sample has of its class",
        (
            Column(
                "inception_score",
                "IS{short}",
                "exp E[KL(p(y|x) || p(y))] by the logits of {extractor}, mean of {splits} splits of {num:,} samples. "
                "It uses no real images.",
                "higher",
                3,
                (1.0, None),
            ),
        ),
        of_samples.inception,
        _logits,
        networks=True,
        least=of_samples.SPLITS,
        needs="logits",
    ),
    Family(
        "recognized",
        "share that a judge is sure of, and its classes",
        (
            Column(
                "recognized",
                "recognized",
                "Share of the samples on which {judge} is at least {sure:.0%} sure of the class. It learned to reject "
                "noise, shuffled pixels and blends, and can be wrong about other images that show no class.",
                "higher",
                3,
                SHARE,
            ),
            Column("classes", "classes", "Classes among the recognized samples.", "higher", 1, (0.0, None)),
        ),
        of_samples.recognized,
        _judge,
        usual=True,
        networks=True,
        needs="labels",
    ),
    Family(
        "modes",
        "modes found, and KL of their shares from equal ones",
        (
            Column("modes", "modes", "{modes}", "higher", 1, (0.0, None)),
            Column(
                "modes_kl",
                "KL of modes",
                "KL divergence of the modes' shares from equal ones, nats.",
                "lower",
                4,
                (0.0, None),
            ),
            Column(
                "high_quality",
                "high quality",
                "Share of points within 3 standard deviations of a mode.",
                "higher",
                4,
                SHARE,
            ),
            Column(
                "collapsed",
                "collapsed",
                "Share of the seeds whose samples fall on fewer than {few:.0%} of the modes; its interval is Clopper "
                "and Pearson's.",
                "lower",
                2,
                SHARE,
                rate=True,
            ),
        ),
        of_samples.modes,
        _modes,
        networks=True,
        needs="labels, or a mixture",
    ),
    Family(
        "two_sample",
        "held-out accuracy of a classifier of real against fake",
        (
            Column(
                "two_sample",
                "two-sample",
                "Accuracy on held-out examples of a small network that tells samples from test examples by {network}; "
                "0.5 if it cannot.",
                "lower",
                3,
                SHARE,
            ),
            Column("two_sample_p", "its p", "Probability of that accuracy or more if both are alike.", None, 4, SHARE),
        ),
        of_samples.two_sample,
        _features,
        networks=True,
        least=2,
        needs="features",
    ),
    Family(
        "classification_accuracy",
        "accuracy on real images of a classifier that learned from samples only",
        (
            Column(
                "classification_accuracy",
                "CAS",
                "Classification accuracy score: accuracy on {real} of a classifier trained on {num:,} samples with "
                "their labels.",
                "higher",
                4,
                SHARE,
            ),
        ),
        of_samples.classification_accuracy,
        _labels,
        needs="labeled samples",
    ),
    Family(
        "nearest_neighbor",
        "error of 1-NN among samples' pixels on real images",
        (
            Column(
                "nearest_neighbor",
                "1-NN error",
                "Error on {real} of the nearest neighbor among {num:,} samples with their labels, by pixels.",
                "lower",
                4,
                SHARE,
            ),
        ),
        lambda sides, fake: {
            "nearest_neighbor": nearest_neighbor_error(sides.test.flat, sides.test.labels, fake.flat, fake.labels)
        },
        _labels,
        needs="labeled samples",
    ),
    Family(
        "agreement",
        "share on which a judge names the requested class, and recall within classes",
        (
            Column(
                "agreement",
                "agreement",
                "Share of the samples on which {judge} names the requested class{right}. One image per class "
                "would do: read it beside the recall within classes.",
                "higher",
                4,
                SHARE,
            ),
            Column(
                "class_recall",
                "class recall",
                "Mean over the classes of the share of a class's test images within a ball of one of its samples"
                + NEIGHBORS,
                "higher",
                3,
                SHARE,
            ),
        ),
        of_samples.agreement,
        lambda context: _judge(context) or _labels(context),
        networks=True,
        needs="labeled samples",
    ),
    Family(
        "parzen",
        "Parzen window log-likelihood, historical",
        (
            Column(
                "parzen",
                "Parzen",
                "Log-likelihood, nats, of {real} under Gaussian windows on {num:,} samples, {unit}, their width chosen "
                "on the validation split. Historical: it says little of quality.",
                "higher",
                1,
            ),
        ),
        of_samples.parzen,
        needs="samples",
        pixelwise=True,
    ),
    Family(
        "memorization",
        "whether samples lie closer to the training set than test examples",
        (
            Column(
                "memorization",
                "closer to train",
                "Probability that a sample lies closer, by {by}, to its nearest training example than a test example "
                "does to its own: 0.5 of new ones, toward 1 of copies.",
                None,
                3,
                SHARE,
            ),
        ),
        lambda sides, fake: {"memorization": memorization(sides.train.flat, sides.test.flat, fake.flat).probability},
        needs="samples",
        pixelwise=True,
    ),
    Family(
        "diversity",
        "feature distance and MS-SSIM of pairs within a class",
        (
            Column(
                "feature_diversity",
                "pair distance",
                "Mean distance, in {network}, of two samples of one class: compare it with that of real ones.",
                None,
                3,
                (0.0, None),
            ),
            Column(
                "ms_ssim",
                "MS-SSIM",
                "Mean structural similarity, over scales, of two samples of one class: over that of real ones they are "
                "too alike.",
                None,
                3,
                (-1.0, 1.0),
            ),
        ),
        of_samples.diversity,
        _judge,
        networks=True,
        least=2,
        needs="labels",
    ),
    Family(
        "meshes",
        "specificity and generalization of meshes, and flipped triangles",
        (
            Column(
                "specificity",
                "specificity",
                "Root mean square distance of a sample's vertices from the nearest training mesh after rigid "
                "alignment, % of the box diagonal, mean of {num:,} samples; 0 of copies, as of real ones.",
                "lower",
                3,
                (0.0, None),
            ),
            Column(
                "generalization",
                "generalization",
                "The same from a test mesh to the nearest of {num:,} samples, mean of {real}.",
                "lower",
                3,
                (0.0, None),
            ),
            Column(
                "flipped",
                "flipped",
                "Share of the samples' triangles whose normal turned against those beside them: compare it with that "
                "of real ones.",
                "lower",
                5,
                SHARE,
            ),
        ),
        of_samples.meshes,
        _meshes,
        needs="meshes",
    ),
    Family(
        "captions",
        "share of samples that satisfy their captions, and by attribute",
        (
            Column(
                "satisfied",
                "satisfied",
                "Share of {num:,} samples of which their captions are true, by what is seen of them. Read it beside "
                "that of real images, of shrunk ones, and of others' captions.",
                "higher",
                4,
                SHARE,
            ),
            *(
                Column(
                    f"satisfied_{number}",
                    f"{words}",
                    f"The same of captions of {words} alone.",
                    "higher",
                    4,
                    SHARE,
                )
                for number, words in ((1, "one object"), (2, "two objects"), (3, "three objects"))
            ),
            *(
                Column(
                    f"satisfied_{attribute}",
                    attribute,
                    f"Share of the samples whose captions state {words}, of which this alone is true{more}.",
                    "higher",
                    4,
                    SHARE,
                )
                for attribute, words, more in zip(
                    ATTRIBUTES,
                    ("the background", "colors", "a count", "shapes", "sizes", "relations"),
                    ("", "", " in all", "", "", ", of the groups found by their colors"),
                    strict=True,
                )
            ),
        ),
        of_samples.satisfied,
        _checkable_captions,
        needs="captions of shapes",
    ),
    Family(
        "r_precision",
        "share of samples whose captions are found among a hundred by a text encoder",
        (
            Column(
                "r_precision",
                "R-precision",
                "Share of at most {retrieved:,} samples that are more similar to their own captions than to 99 of the "
                "test split{untrue}, by a text encoder trained apart on real images.",
                "higher",
                4,
                SHARE,
            ),
        ),
        of_samples.r_precision,
        _captions,
        needs="captions",
    ),
)
"""Families that score examples of any origin."""

ERRORS: tuple[tuple[str, str, str, Literal["lower", "higher"], int, tuple[float | None, float | None]], ...] = (
    ("mse", "MSE", "Mean squared error, pixels in [0, 1],", "lower", 5, SHARE),
    ("psnr", "PSNR", "Peak signal-to-noise ratio, dB,", "higher", 2, (0.0, None)),
    ("ssim", "SSIM", "Structural similarity", "higher", 4, (-1.0, 1.0)),
)
"""Errors of reconstructed images: key, title, words, which is better, digits, bounds."""

MODELS = (
    Family(
        "log_prob",
        "log-likelihood: exact or a bound, as the model defines it",
        (
            *_by_space("log_prob", "log p, SPACE", "Mean log-likelihood in nats, SPACE.", "higher", 1),
            Column("bits_per_dimension", "bits/dim", "The same as bits a pixel and channel.", "lower", 3),
        ),
        of_models.log_prob,
        _likelihood,
        usual=True,
        needs="a likelihood",
    ),
    Family(
        "iwae",
        "importance-weighted bound of the log-likelihood",
        _by_space(
            "iwae",
            "IWAE, SHORT",
            "Importance-weighted bound of the mean log-likelihood in nats, SPACE; K = {importance:,}, {some} of them.",
            "higher",
            2,
        ),
        of_models.iwae,
        _inferred_with_noise,
        needs="densities of latents",
    ),
    Family(
        "ais",
        "log-likelihood by annealed importance sampling",
        (
            *_by_space(
                "ais",
                "AIS, SHORT",
                "Mean log-likelihood in nats, SPACE, by annealed importance sampling with {temperatures:,} "
                "temperatures: a stochastic lower bound, on {annealed} ones.",
                "higher",
                2,
            ),
            Column(
                "ais_chains",
                "AIS chains",
                "Chains that AIS rests on, in effect, of {chains}: (sum w)^2 / sum w^2 by their weights w, harmonic "
                "mean over the test images. Below {few_chains} it may be nats too low: raise --temperatures.",
                None,
                1,
                (1.0, float(CHAINS)),
            ),
        ),
        of_models.ais,
        _annealed,
        needs="densities of latents",
    ),
    Family(
        "active_units",
        "latents whose posterior mean varies",
        (
            Column(
                "active_units",
                "active units",
                "Latents whose posterior mean has a variance over 0.01.",
                None,
                1,
                (0.0, None),
            ),
        ),
        of_models.active_units,
        lambda context: _inferred_with_noise(context) or _encodes(context),
        needs="densities of latents",
    ),
    Family(
        "rate_distortion",
        "KL(q(z|x) || p(z)) and E_q[-log p(x|z)]",
        (
            Column("rate", "rate", "E[KL(q(z|x) || p(z))] by one latent a test image, nats.", None, 2),
            *_by_space(
                "distortion",
                "distortion, SHORT",
                "E[-log p(x|z)] in nats by one latent a test image, SPACE.",
                "lower",
                2,
            ),
        ),
        of_models.rate_distortion,
        _inferred,
        needs="densities of latents",
    ),
    Family(
        "reconstruction",
        "errors of decoded codes: MSE, PSNR, SSIM",
        tuple(
            Column(key + of, title + short, f"{words} of reconstructed test images{more}.", better, digits, bounds)
            for of, short, more in (("", "", ""), ("_binary", ", bits", ", which are bits (pixels >= 128)"))
            for key, title, words, better, digits, bounds in ERRORS
        ),
        of_models.reconstruction,
        _reconstructs,
        needs="an encoder",
    ),
    Family(
        "vertex_error",
        "error of reconstructed meshes, beside PCA's",
        (
            Column(
                "vertex_error",
                "vertex error",
                "Mean distance of the vertices of {real} from those of their reconstructions after rigid alignment, % "
                "of the diagonal of the box around the mean training mesh.",
                "lower",
                3,
                (0.0, None),
            ),
            Column(
                "vertex_error_pca",
                "PCA of vertices",
                "The same of PCA of the training meshes' aligned vertices, with as many components as latents.",
                None,
                3,
                (0.0, None),
            ),
            Column(
                "vertex_error_pca_features",
                "PCA of features",
                "The same of PCA of the features that the model is trained on.",
                None,
                3,
                (0.0, None),
            ),
        ),
        of_models.vertex_error,
        _encodes_meshes,
        of_meshes=True,
        needs="meshes, an encoder",
    ),
    Family(
        "mesh_paths",
        "edge lengths and volume between two meshes",
        tuple(
            Column(
                f"{path}_{what}",
                f"{title}, {what}",
                f"Mean change of {words}, as a share, in the middle of {of} of {{pairs}} pairs of test meshes, from "
                "the mean of the two.",
                "lower",
                4,
                (0.0, None),
            )
            for path, title, of in (
                ("path", "path", "the decoded line between the latents"),
                ("straight", "straight path", "the line between the aligned vertices"),
            )
            for what, words in (("edges", "edge lengths"), ("volume", "the enclosed volume"))
        ),
        of_models.mesh_paths,
        _paths_of_meshes,
        needs="meshes, an encoder",
    ),
    Family(
        "accuracy",
        "share of the test images classified correctly",
        (Column("accuracy", "accuracy", "Share of the test images classified correctly.", "higher", 4, SHARE),),
        of_models.accuracy,
        _classifies,
        usual=True,
        needs="a classifier",
    ),
    Family(
        "written_captions",
        "nats a word of test captions, and BLEU-4 of written ones",
        (
            Column(
                "caption_nats",
                "nats/word",
                "Mean of -log p of a word of the test captions, given the image and the words before, nats; a "
                "caption's end is a word. Compare it with that of a model without the image.",
                "lower",
                3,
                (0.0, None),
            ),
            Column("caption_perplexity", "perplexity", "exp of the nats a word.", "lower", 2, (1.0, None)),
            Column(
                "bleu",
                "BLEU-4",
                "Corpus BLEU of 1 to 4 words of the captions written of the test images, each against its own one "
                "caption: low where an image has many true captions.",
                "higher",
                3,
                SHARE,
            ),
        ),
        of_models.written_captions,
        _writes,
        needs="captions written",
    ),
    Family(
        "caption_truth",
        "share of captions written of shapes that are true",
        (
            Column(
                "caption_true",
                "true",
                "Share of the captions written of the test images that are true of them: they name the objects that "
                "are there and no others, and each word is right.",
                "higher",
                4,
                SHARE,
            ),
            Column(
                "caption_distinct", "distinct", "Different captions among those written, as a share.", None, 4, SHARE
            ),
            Column(
                "caption_detail",
                "in detail",
                "Share of the captions that say all: the background, every size, and relations of several groups.",
                None,
                4,
                SHARE,
            ),
            Column("caption_words", "words", "Mean number of words of a caption.", None, 2, (0.0, None)),
        ),
        of_models.caption_truth,
        _writes_of_scenes,
        needs="captions written of shapes",
    ),
    Family(
        "codes",
        "error of an inferred categorical code as a classifier",
        (
            Column(
                "code_error",
                "code error",
                "Error on {real} of the inferred categorical code, each category read as the class most frequent among "
                "the training images that have it.",
                "lower",
                4,
                SHARE,
            ),
        ),
        of_models.codes,
        _codes,
        needs="inferred codes, labels",
    ),
)
"""Families that score models."""

FAMILIES = {family.name: family for family in (*SAMPLES, *MODELS)}
"""Map from the names that `--metrics` takes to families."""

COLUMNS = {column.key: column for family in FAMILIES.values() for column in family.columns}
"""Map from key to column, in the order of a table."""

FAMILY_OF = {column.key: family for family in FAMILIES.values() for column in family.columns}
"""Map from a column's key to the family that fills it."""


def scores_samples(family: str) -> bool:
    """True if a family scores examples of any origin; otherwise it scores models."""
    return FAMILIES[family] in SAMPLES


def averaged(column: Column) -> bool:
    """True if a column can be averaged over datasets: a share for which large, or small, is better on all of them."""
    return column.bounds == SHARE and column.better is not None and not column.rate


def check_scoring(scoring: Scoring) -> None:
    """Raises UserError for an unknown metric or an invalid value."""
    for name in scoring.metrics:
        if name not in FAMILIES:
            raise UserError(f"unknown metric {name!r}: {did_you_mean(name, FAMILIES)}there are {', '.join(FAMILIES)}")
    scoring.check()


def columns(context: Context, scoring: Scoring, num: int, keys: set[str]) -> list[Column]:
    """Columns of these keys, in the order of a table, with placeholders filled in; `num` samples are scored."""
    said = placeholders(context, scoring, num)
    more = 0 if context.dataset.spec.subject == "image" else 2  # distances of points are small
    return [
        column._replace(
            title=column.title.format_map(said),
            note=column.note.format_map(said),
            digits=column.digits + more * column.key.startswith("fd"),
        )
        for column in COLUMNS.values()
        if column.key in keys
    ]


def placeholders(context: Context, scoring: Scoring, num: int) -> dict[str, Any]:
    """Map from the {names} in titles and notes of columns to their values."""
    spec, extractor = context.dataset.spec, context.extractor or Extractor("no network", "", np.asarray)
    tested = len(context.dataset.test[spec.subject])
    real = f"the {tested:,} test examples"
    name = extractor.name.removesuffix(" extractor")
    judge = "the judge, a classifier trained apart from the extractor on real images,"
    right = (
        f" (right on {context.judge.accuracy:.2%} of real images" if context.judge and context.judge.accuracy else ""
    )
    right += right and (", channel by channel)" if (spec.num_classes or 0) == 1000 else ")")
    points = spec.mixture is not None
    modes = (
        f"Modes of the mixture with one of {num:,} samples within 3 standard deviations."
        if points
        else f"Classes that {judge} names among {num:,} samples{right}; its errors count modes that are absent: "
        "read it beside the row of real images. For 1,000 classes published figures use 26,000 samples (--samples "
        "26000)."
    )
    return {
        "fd": "FID" if extractor.fid else f"FD-{name}",
        "short": "" if extractor.fid else f"-{name}",
        "caution": "" if extractor.fid else " It is not FID, which uses other features.",
        "extractor": extractor.name,
        "network": f"the features of {extractor.name}",
        "num": num,
        "real": real,
        "both": f"{num:,} samples and {real}",
        "alike": ", in every row alike" if num <= spec.num_examples else ", real ones being fewer,",
        "subset": subset_size(tested, num),
        "k": of_samples.K,
        "pairs": of_models.PAIRS,
        "retrieved": of_samples.RETRIEVED,
        "untrue": " that are not true of them" if context.dataset.name in DATASETS else "",
        "splits": of_samples.SPLITS,
        "sure": of_samples.SURE,
        "few": FEW,
        "judge": judge,
        "right": right,
        "modes": modes,
        "unit": "in the points' unit" if points else "pixels in [0, 1]",
        "by": "coordinates" if points else "pixels",
        "importance": scoring.importance_samples,
        "temperatures": scoring.temperatures,
        "chains": CHAINS,
        "few_chains": FEW_CHAINS,
        "some": f"{scoring.examples:,} evenly spaced" if (scoring.examples or tested) < tested else "all",
        "annealed": f"{min(scoring.examples or of_models.AIS_EXAMPLES, tested):,} evenly spaced",
    }


def likelihood_notes(model: Model) -> dict[str, str]:
    """Map from log-likelihood column to its note, or to the reason why it has no number."""
    if model.likelihood is None:
        return dict.fromkeys([f"log_prob_{space}" for space in SPACES], "it has no likelihood")
    own = f"{model.likelihood.kind}; {model.likelihood.note}"
    other = f"its likelihood is of {model.likelihood.space} images"
    return {f"log_prob_{space}": own if model.likelihood.space == space else other for space in SPACES}
