"""A synthetic comparison for the tests of its page: three arms, five seeds, two datasets, a diverged seed."""

import numpy as np
import pytest

from jaxgen.drawing import image_grid, to_png

SEEDS = [0, 1, 2, 3, 4]
STEPS = {"naive_bayes": [0, 1500], "vae": [0, 500, 1000, 1500], "dcgan, with a wider generator": [0, 400, 800, 1200]}
GAN = "dcgan, with a wider generator"


def random(*key):
    return np.random.Generator(np.random.Philox(key))


def blobs(rng, n, size, noise, channels):
    """Images of a bright ring each, with noise: uint8 [n, size, size, channels]."""
    y, x = np.mgrid[:size, :size] / (size - 1)
    center, radius = rng.uniform(0.35, 0.65, (n, 2, 1, 1)), rng.uniform(0.15, 0.35, (n, 1, 1))
    distance = np.hypot(x - center[:, 0], y - center[:, 1])
    ring = np.exp(-(((distance - radius) / 0.07) ** 2))[..., None] * rng.uniform(0.5, 1, (n, 1, 1, channels))
    clouds = rng.integers(2, size=(n, size // 2, size // 2, channels)).repeat(2, axis=1).repeat(2, axis=2)
    return np.round(255 * ((1 - noise) * ring + noise * clouds)).astype(np.uint8)


def row_pictures(folder, number, name, size, channels, classes):
    columns = 6 if classes else 8
    rows = len(classes) if classes else 8
    progress = {}
    for seed in SEEDS:
        progress[seed] = {}
        for step in STEPS[name]:
            noise = 1 - step / STEPS[name][-1] * (0.9 - 0.1 * number)
            images = blobs(random(number, seed), rows * columns, size, noise, channels)
            file = folder / f"{number}-seed-{seed}-step-{step}.png"
            file.write_bytes(to_png(image_grid(images, columns), max(1, 32 // size)))
            progress[seed][step] = file
    nearest = {seed: (blobs(random(7, seed), 8, size, 0.2, channels), blobs(random(8, seed), 8, size, 0, channels))
               for seed in SEEDS}  # fmt: skip
    paths = {
        seed: blobs(random(9, seed), 32, size, 0.1, channels).reshape(4, 8, size, size, channels) for seed in SEEDS
    }
    return {
        "progress": progress,
        "columns": columns,
        "classes": classes,
        "interpolation": paths if number else None,
        "path_labels": None,
        "nearest": nearest if name != "vae" else None,
    }


def curves(number, name):
    steps = np.arange(50, STEPS[name][-1] + 1, 50)

    def values(metric, seed):
        falling = 80 * np.exp(-steps / (200 + 60 * metric)) + 20 + random(number, metric, seed).normal(0, 2, len(steps))
        if name == GAN and seed == 3:
            falling[len(steps) // 2 :] = np.nan
        return steps, falling

    titles = {"naive_bayes": ["log_prob"], "vae": ["loss", "reconstruction", "kl"], GAN: ["generator", "discriminator"]}
    return {title: {seed: values(metric, seed) for seed in SEEDS} for metric, title in enumerate(titles.get(name, []))}


def table(label, size, seed, shift):
    rng = random(100 + seed)

    def values(mean, spread):
        return [round(float(value), 6) for value in rng.normal(mean, spread, len(SEEDS))]

    metrics = [
        ("fd", f"FD-{label}", "lower", 2, f"Fréchet distance between Gaussians fitted to features of {label}."),
        ("precision", "precision", "higher", 3, "Share of the samples within the real images’ balls."),
        ("recall", "recall", "higher", 3, "Share of the real images within the samples’ balls."),
        ("log_prob_binary", "log p, binary", "higher", 1, "Of 899 test images, binarized at 0.5, nats an image."),
        ("memorization", "closer to train", None, 3, "Probability that a sample lies closer to training examples."),
    ]
    titles = {
        "naive_bayes": "Naive Bayes (Bernoulli and Gaussian event models)",
        "vae": "Variational autoencoder (Kingma & Welling 2014, Auto-Encoding Variational Bayes)",
        GAN: "Deep convolutional GAN (Radford, Metz & Chintala 2016)",
    }
    numbers = {
        "naive_bayes": {"fd": (28.4 + shift, 3), "precision": (0.61, 0.02), "recall": (0.52, 0.02)},
        "vae": {"fd": (45.1 + shift, 9), "precision": (0.82, 0.01), "recall": (0.44, 0.03)},
        GAN: {"fd": (19.4 + shift, 4), "precision": (0.86, 0.03), "recall": (0.57, 0.05)},
    }
    likelihoods = {"naive_bayes": (-72.9, 1e-3), "vae": (-59.9, 0.3)}
    rows = [
        {
            "name": "real against real",
            "kind": "real",
            "samples": 449,
            "note": "two halves of the training images",
            "values": {"fd": [4.5], "precision": [0.93], "recall": [0.94]},
            "notes": {"log_prob_binary": "a score of models"},
        },
    ]
    for kind in ("trained", "untrained"):
        for name, scores in numbers.items():
            far = kind == "untrained"
            scored = {key: values(mean * (30 if far and key == "fd" else 0.2 if far else 1), spread)
                      for key, (mean, spread) in scores.items()}  # fmt: skip
            scored["memorization"] = values(0.52, 0.02)
            notes = {"log_prob_binary": "a GAN has no likelihood"}
            if name in likelihoods:
                mean, spread = likelihoods[name]
                scored["log_prob_binary"] = values(mean - 500 * far, spread)
                notes = {"log_prob_binary": "exact" if name == "naive_bayes" else "a bound, K = 500"}
            row = {"name": f"{name}, untrained" if far else name, "kind": kind, "values": scored, "notes": notes}
            if not far:
                row |= {
                    "title": titles[name],
                    "model": name.partition(",")[0],
                    "steps": STEPS[name][-1],
                    "seconds": 12.5 * len(name),
                    "diverged": [],
                    "digests": {str(s): f"{rng.integers(2**62):016x}" * 4 for s in SEEDS},
                    "sampling": "means of p(x|z), z from the prior" if name == "vae" else "",
                    "config": {"features": 32, "smallest": 2, "latent_dim": 10},
                    "run": f"{label}/{name}",
                }
                if name == GAN and seed == 0:
                    row["diverged"] = [3]
                    for some in scored.values():
                        some[3] = None
            rows.append(row)
    return {
        "label": label,
        "dataset": {
            "name": label,
            "options": {"image_size": size},
            "note": "Scans of handwriting, split by writer.",
            "fingerprint": f"{rng.integers(2**62):016x}" * 4,
            "train": 898,
            "test": 899,
        },
        "samples": 898,
        "metrics": [dict(zip(("key", "title", "better", "digits", "note"), metric, strict=True)) for metric in metrics],
        "rows": rows,
        "scoring": {"metrics": ["fd", "precision_recall"], "samples": None, "extractor": None, "sampling_seed": 0},
        "extractor": {
            "name": f"{label} extractor",
            "accuracy": 0.9713,
            "digest": "e1e2" * 16,
            "note": "A convolutional classifier of 32 features.",
        },
        "judge": None,
        "left_out": {},
        "warnings": [],
    }


def verdict(b, metric, words, sentence, label="digits", paired=False, numbers=(0.004, 0.016, 25.7, 15.4, 36.0, 6)):
    names = ("p", "p_holm", "effect", "low", "high", "needed")
    of = {"a": GAN, "b": b, "metric": metric, "table": label, "paired": paired, "verdict": words, "sentence": sentence}
    return of | dict(zip(names, numbers, strict=True))


def verdicts():
    return [
        verdict(
            "vae",
            "FD-digits",
            "better",
            f"{GAN} ranks better by FD-digits (lower is better) than vae (5 seeds each; 1 of {GAN}'s and 0 of vae's "
            f"diverged): 19.30 (4 of 5) against 45.02 (5 of 5), a difference of 25.72 [15.40, 36.00] (above 0 "
            f"favors {GAN}); exact permutation test of ranks, diverged seeds last, p = 0.004, by Holm 0.016.",
        ),
        verdict(
            "naive_bayes",
            "precision",
            "worse",
            f"naive_bayes has a higher precision than {GAN} (5 pairs of seeds): 0.861 against 0.612, a difference "
            "of 0.249 [0.201, 0.297]; exact paired sign-flip test, p = 0.0098, by Holm 0.029.",
            paired=True,
            numbers=(0.0098, 0.029, -0.249, -0.297, -0.201, 8),
        ),
        verdict(
            "naive_bayes",
            "recall",
            "no difference can be told",
            f"No difference between {GAN} and naive_bayes can be told by recall (5 seeds each): 0.571 against 0.524, a "
            f"difference of 0.047 [-0.013, 0.107] (above 0 favors {GAN}); exact permutation test, "
            "p = 0.14, by Holm 0.29.",
            label="shapes in three colors",
            numbers=(0.143, 0.286, 0.047, -0.013, 0.107, 6),
        ),
        verdict(
            "vae",
            "FD",
            "not enough seeds to tell",
            f"Not enough seeds to tell {GAN} and vae apart by FD (5 seeds each; 6 seeds of each would be enough for "
            f"4 declared comparisons): a run of {GAN} is ahead of one of vae with probability 0.91; exact "
            "permutation test of ranks, p = 0.03, by Holm 0.09.",
            label=None,
            numbers=(0.03, 0.09, 0.91, None, None, 6),
        ),
    ]


@pytest.fixture(scope="session")
def made_up(tmp_path_factory):
    """Inputs (results, pictures) of `write_report` with most of what a page may show."""
    folder = tmp_path_factory.mktemp("grids")
    tables = [table("digits", 16, 0, 0), table("shapes in three colors", 24, 1, 12)]
    across = [
        {"name": name, "interquartile_mean": mean, "low": mean - 4.2, "high": mean + 5.1, "n_runs": 5, "n_tasks": 2}
        for name, mean in (("naive_bayes", 34.2), ("vae", 51.8), (GAN, 25.4))
    ]
    trials = [
        {"config": {"generator_learning_rate": rate, "features": 64}, "value": value, "seconds": 85.2, "steps": 1200}
        | {"chosen": value == 17.8}
        for rate, value in ((2e-4, 24.1), (5e-4, 20.6), (1e-3, 17.8), (4e-3, None))
    ]
    tuned = {"arm": GAN, "table": "digits", "metric": "FD-digits", "split": "validation", "trials": trials}
    tuned |= {"seconds": 341.0, "runs": 4}
    results = {
        "name": "wider",
        "title": "Does a wider generator help? Naive Bayes, a VAE and a DCGAN on handwritten digits and shapes",
        "description": (
            "A DCGAN whose generator is twice as wide, beside the models of the first comparison.\n\n"
            "Twice as many features cost four times the operations: is it worth that?\n\n"
            "    jaxgen compare experiments/wider.py\n\nTime: about 9 minutes on 2 CPU cores, compilation included."
        ),
        "command": "jaxgen compare experiments/wider.py --seeds 0 1 2 3 4 --out runs/wider",
        "environment": {
            "jaxgen": "0.1.0",
            "commit": "4ecd7b4d0c2f9e1a7b6c5d4e3f2a1b0c9d8e7f6a",
            "jax": "0.10.2",
            "platform": "Linux-6.1.0-x86_64-with-glibc2.36",
            "device": "cpu",
            "devices": 1,
            "xla_flags": "",
            "dataset": {"name": "digits", "options": {"image_size": 16}},
        },
        "train_seconds": 532.1,
        "seeds": SEEDS,
        "checkpoint": "the last checkpoint of every seed",
        "tables": tables,
        "verdicts": verdicts(),
        "across": [{"metric": "FD", "better": "lower", "rows": across}],
        "tuning": [tuned],
    }
    pictures = {}
    for number, (of, size, channels) in enumerate(zip(tables, (16, 24), (1, 3), strict=True)):
        names = list(STEPS) if number == 0 else ["vae", GAN]
        classes = {"naive_bayes": [str(digit) for digit in range(10)]} if number == 0 else {}
        (folder / str(number)).mkdir()
        pictures[of["label"]] = {
            "real": blobs(random(50, number), 60, size, 0, channels),
            "curves": {name: curves(i, name) for i, name in enumerate(STEPS)},
            "rows": {
                name: row_pictures(folder / str(number), i, name, size, channels, classes.get(name))
                for i, name in enumerate(names)
            },
        }
    return results, pictures
