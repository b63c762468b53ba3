"""Statements that are signed with a picture of a run: everything needed to draw it again and to cut it into images."""

import json
from typing import Any

import jax

import jaxgen
from jaxgen.pictures.kinds import KINDS, Asked, Drawn, scale_of
from jaxgen.provenance.credentials import COMPOSITE, GENERATED, Seal
from jaxgen.provenance.keys import Keys, key_id
from jaxgen.training.folder import Run


def seal(run: Run, kind: str, asked: Asked, drawn: Drawn, suffix: str, keys: Keys, watermark: float | None) -> Seal:
    """The seal of a picture's files; lists are written as text, which the C2PA library returns unchanged."""
    plan, seeds = run.plan, run.plan.settings.seeds
    options = {name: value for name, value in asked._asdict().items() if value is not None}
    options = {name: value for name, value in options.items() if name not in ("watermark", "keyed")}
    described: dict[str, Any] = {
        "kind": kind,
        "options": json.dumps(options),
        "model": plan.model_name,
        "checkpoint": " ".join(map(str, run.chosen or (run.step,))),
        "seeds": " ".join(map(str, seeds)),
        "parameters_sha256": run.named_digests(),
        "dataset": {"name": plan.dataset.name, "fingerprint": plan.dataset.fingerprint},
        "jaxgen": jaxgen.__version__,
        "jax": jax.__version__,
    }
    if kind == "samples" and suffix == ".png" and plan.dataset.spec.subject == "image" and not drawn.legible:
        height, width, _ = plan.dataset.spec.image_shape
        num = len(drawn.arrays["seed"]) // len(seeds)
        scale = scale_of(drawn, plan.dataset)
        described["grid"] = {"height": height, "width": width, "scale": scale, "seeds": len(seeds), "num": num}
    if asked.watermark:
        described |= {"watermark": key_id(keys.watermark), "watermark_db": f"{watermark:g}"}
    if asked.keyed:
        described["keyed"] = key_id(keys.watermark)
    return Seal(keys, described, COMPOSITE if KINDS[kind].real else GENERATED)
