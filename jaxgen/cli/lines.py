"""Lines for the terminal."""

from collections.abc import Mapping
from typing import Any

SHOWN = 3
"""Places of redrawn images that a line names."""


def verified_line(result: Mapping[str, Any]) -> str:
    """A file's checks, as `jaxgen.pictures.checking.check` gives them, in one line.

    Names and statements may hold what ends a line or moves the cursor: it is shown as Python writes it.
    """
    parts = [_signature(result["signature"])]
    for name, title in (("watermark", "watermark"), ("latents", "signs of latents"), ("redrawn", "redrawn")):
        if name in result:
            test = result[name]
            parts.append(f"{title} {_p(test['p'])}" if "p" in test else f"{title}: nothing ({test['reason']})")
    if "places" in result.get("redrawn", {}):
        parts[-1] += f", {_redrawn(result['redrawn'])}"
    if "real" in result:
        test = result["real"]
        title = "comparison: " if test["says"] == "nothing" else ""
        parts.append(f"{title}{test['says']} ({test['reason'] or _p(test['p'])})")
    line = f"{result['file']}: {'; '.join(parts)}"
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in line)


def _p(value: float) -> str:
    """A p-value; one that is below the smallest float is not 0."""
    return f"p {value:.2g}" if value else "p below 1e-300"


SIGNATURES = {
    "trusted": "signature trusted",
    "unknown signer": "signed by an unknown signer",
    "broken": "signature broken",
    "none": "no signature",
}
"""Map from a signature's state to words."""


def _signature(signature: Mapping[str, Any]) -> str:
    described = signature["described"] or {}
    told = ", ".join(str(described[name]) for name in ("model", "kind") if name in described) or signature["reason"]
    return SIGNATURES[signature["says"]] + (f" ({told})" if told else "")


def _redrawn(test: Mapping[str, Any]) -> str:
    places = [f"{index} of seed {seed}" for seed, index in test["places"]]
    named = ", ".join(places[:SHOWN]) + ", ..." * (len(places) > SHOWN)
    where = "every sample in its place" if test["in_place"] else f"sample{'s' * (len(places) > 1)} {named}"
    return f"{where}, cosine {test['cosine']:.2f}, the next {test['second']:.2f}"
