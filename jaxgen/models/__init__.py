"""The models: one file per paper, found by name through one literal table, imported on demand."""

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, NamedTuple

from jaxgen.errors import UserError, did_you_mean
from jaxgen.user_files import load_file

if TYPE_CHECKING:  # so that reading the table does not import jax
    from jaxgen.model import Model, Spec


WGAN_GP, R1, SN_GAN = "WGAN-GP, arXiv 1704.00028", "R1, arXiv 1801.04406", "SN-GAN, arXiv 1802.05957"
WASSERSTEIN = "--loss wasserstein --penalty one_centered --critic-steps 5 --batch-size 320 --beta1 0 --beta2 0.9"
RATES = "--generator-learning-rate 1e-4 --discriminator-learning-rate 1e-4"
CONVOLUTIONAL = MappingProxyType(
    {
        WGAN_GP: f"{WASSERSTEIN} --normalization layer {RATES}",
        R1: "--penalty zero_centered --penalty-at real --normalization none",
        SN_GAN: "--loss hinge --spectral-norm --normalization none",
    }
)
DENSE = MappingProxyType(
    {
        WGAN_GP: f"{WASSERSTEIN} --optimizer adam --learning-rate 1e-4",
        R1: "--penalty zero_centered --penalty-at real --optimizer adam",
        SN_GAN: "--loss hinge --spectral-norm --optimizer adam",
    }
)


class Entry(NamedTuple):
    """A row of the table of models."""

    title: str
    paper: str
    url: str
    section: str  # of the review "Modelos Generativos en el Aprendizaje Automático ..."
    recipes: Mapping[str, str] = MappingProxyType({})  # the options that make it another paper's model, by its name


IMPORTED: dict[Path, dict[str, Path]] = {}
"""Map from each model file loaded to the files beside it that it imports."""

MODELS = {
    "classifier": Entry(
        "Classifiers: logistic regression, LeNet, VGG, ResNet",
        "LeCun et al. 1998, Gradient-based learning applied to document recognition",
        "https://doi.org/10.1109/5.726791",
        "1, 2.1, 2.2",
    ),
    "naive_bayes": Entry(
        "Naive Bayes",
        "Bernoulli, Gaussian and categorical event models; Hastie, Tibshirani & Friedman 2009, section 6.6.3",
        "https://hastie.su.domains/ElemStatLearn/",
        "2.3.1",
    ),
    "autoencoder": Entry(
        "Autoencoder, convolutional or linear",
        "Bank, Koenigstein & Giryes 2021, Autoencoders",
        "https://arxiv.org/abs/2003.05991",
        "2.3.3",
    ),
    "vae": Entry(
        "Variational autoencoder",
        "Kingma & Welling 2014, Auto-Encoding Variational Bayes",
        "https://arxiv.org/abs/1312.6114",
        "2.3.3",
    ),
    "meshvae": Entry(
        "Variational autoencoder of deforming meshes",
        "Tan et al. 2018, Variational Autoencoders for Deforming 3D Mesh Models",
        "https://arxiv.org/abs/1709.04307",
        "2.3.3",
    ),
    "dgdn": Entry(
        "Deconvolutional network with labels and captions",
        "Pu et al. 2016, Variational Autoencoder for Deep Learning of Images, Labels and Captions",
        "https://arxiv.org/abs/1609.08976",
        "2.3.3",
    ),
    "transformer": Entry(
        "Image Transformer",
        "Parmar et al. 2018, Image Transformer",
        "https://arxiv.org/abs/1802.05751",
        "2.3.3",
    ),
    "vqvae": Entry(
        "VQ-VAE with its prior",
        "van den Oord, Vinyals & Kavukcuoglu 2017, Neural Discrete Representation Learning",
        "https://arxiv.org/abs/1711.00937",
        "2.3.3",
    ),
    "vqvae2": Entry(
        "VQ-VAE-2 with its priors",
        "Razavi, van den Oord & Vinyals 2019, Generating Diverse High-Fidelity Images with VQ-VAE-2",
        "https://arxiv.org/abs/1906.00446",
        "2.3.3",
    ),
    "vaegan": Entry(
        "VAE/GAN",
        "Larsen et al. 2016, Autoencoding beyond pixels using a learned similarity metric",
        "https://arxiv.org/abs/1512.09300",
        "2.3.3",
    ),
    "gan": Entry(
        "Generative adversarial network",
        "Goodfellow et al. 2014, Generative Adversarial Nets",
        "https://arxiv.org/abs/1406.2661",
        "2.3.2",
        DENSE,
    ),
    "dcgan": Entry(
        "Deep convolutional GAN",
        "Radford, Metz & Chintala 2016, Unsupervised Representation Learning with DCGANs",
        "https://arxiv.org/abs/1511.06434",
        "2.3.2",
        CONVOLUTIONAL,
    ),
    "cgan": Entry(
        "Conditional GAN",
        "Mirza & Osindero 2014, Conditional Generative Adversarial Nets",
        "https://arxiv.org/abs/1411.1784",
        "2.3.2",
        MappingProxyType(
            CONVOLUTIONAL | {WGAN_GP: f"{WASSERSTEIN} --normalization layer --learning-rate 1e-4"},
        ),
    ),
    "infogan": Entry(
        "InfoGAN",
        "Chen et al. 2016, InfoGAN: Interpretable Representation Learning by Information Maximizing GANs",
        "https://arxiv.org/abs/1606.03657",
        "2.3.2",
    ),
    "mggan": Entry(
        "Manifold-guided GAN",
        "Bang & Shim 2018, MGGAN: Solving Mode Collapse using Manifold Guided Training",
        "https://arxiv.org/abs/1804.04391",
        "2.3.2",
        CONVOLUTIONAL,
    ),
    "stackgan": Entry(
        "StackGAN, text to images in two stages",
        "Zhang et al. 2017, StackGAN: Text to Photo-realistic Image Synthesis with Stacked Generative Adversarial "
        "Networks",
        "https://arxiv.org/abs/1612.03242",
        "2.3.2",
    ),
    "transgan": Entry(
        "TransGAN",
        "Jiang, Chang & Wang 2021, TransGAN: Two Pure Transformers Can Make One Strong GAN, and That Can Scale Up",
        "https://arxiv.org/abs/2102.07074",
        "3",
        MappingProxyType(
            {
                "cifar, the authors'": "--batch-size 256 --generator-batch 128 --flip",
                "stl, the authors'": "--batch-size 160 --generator-batch 64 --critic-steps 5 --latent-dim 512 "
                "--depths 7 5 3 --normalization pixel --average-half-life 15625 --average-warmup 0.25 --flip",
            }
        ),
    ),
    "pixelcnn": Entry(
        "PixelCNN, gated or original",
        "van den Oord et al. 2016, Conditional Image Generation with PixelCNN Decoders",
        "https://arxiv.org/abs/1606.05328",
        "2.3.3",
    ),
    "pixelcnnpp": Entry(
        "PixelCNN++",
        "Salimans et al. 2017, PixelCNN++: Improving the PixelCNN with Discretized Logistic Mixture "
        "Likelihood and Other Modifications",
        "https://arxiv.org/abs/1701.05517",
        "2.3.3",
    ),
    "pixelrnn": Entry(
        "PixelRNN: Diagonal BiLSTM, Row LSTM",
        "van den Oord, Kalchbrenner & Kavukcuoglu 2016, Pixel Recurrent Neural Networks",
        "https://arxiv.org/abs/1601.06759",
        "2.3.3",
    ),
}


def load(model: str) -> ModuleType:
    """Returns the module of a model, with `Config` and `make`.

    Args:
        model: a name in `MODELS`, or the path of a user's Python file (ends in .py).

    Raises:
        UserError: there is no such model or file, or the file lacks `Config` or `make`.
    """
    if model in MODELS:
        return importlib.import_module(f"jaxgen.models.{model}")
    if model.endswith(".py"):
        return _load_file(Path(model))
    hint = did_you_mean(model, MODELS)
    raise UserError(f"unknown model {model!r}: {hint}jaxgen has {', '.join(MODELS)}; a file of your own ends in .py")


def heading(model: str) -> str:
    """Title, paper and address of a model in one line; the first docstring line of a user's own file."""
    if model in MODELS:
        entry = MODELS[model]
        return f"{entry.title}: {entry.paper}, {entry.url}"
    return (load(model).__doc__ or model).strip().partition("\n")[0]


def recipes(model: str) -> str:
    """Lines with the options that make a model another paper's; "" where there are none."""
    known = MODELS[model].recipes if model in MODELS else {}
    lines = [f"  {name:27}{options}" for name, options in known.items()]
    return "\n".join(["", "Recipes:", *lines]) if lines else ""


def that_can(able: Callable[["Model"], bool], spec: "Spec") -> list[str]:
    """Names of the models that, with their defaults and for data of this `spec`, are `able` to do something."""
    names = []
    for name in MODELS:
        module = load(name)
        try:
            model = module.make(module.Config(), spec)
        except (KeyError, UserError):  # a model for other data
            continue
        if able(model) and set(model.needs) <= set(spec.entries):
            names.append(name)
    return names


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise UserError(f"no model file {path}")
    module, IMPORTED[path.resolve()] = load_file(path, "model")
    missing = [part for part in ("Config", "make") if not hasattr(module, part)]
    if missing:
        raise UserError(f"{path} is no model: it does not define {' and '.join(missing)}")
    return module


def imported(model: str) -> dict[str, Path]:
    """The files beside a model file that it imports, by relative path; none of a model of the table. Loads it first."""
    return IMPORTED.get(Path(model).resolve(), {})
