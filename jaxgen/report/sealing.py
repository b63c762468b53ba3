"""Statements that are signed with the pictures of a comparison's page."""

import json
from collections.abc import Callable
from typing import Any

import jaxgen
from jaxgen.provenance.credentials import COMPOSITE, GENERATED, MIXED, Seal
from jaxgen.provenance.keys import Keys

SOURCES = {"real": MIXED, "nearest": COMPOSITE, "captioned": COMPOSITE}
"""Map from gallery to the source of its pictures, of those that are not generated alone."""

AT_STEPS = ("samples", "strips")
"""Galleries of pictures drawn while training; the others are drawn from the parameters that are scored."""


def signer(keys: Keys, results: dict) -> Callable[..., bytes]:
    """Function that signs a picture of the page: (content, table, gallery, arm, seed, step) -> the signed file.

    Args:
      keys: the signer's.
      results: the comparison, as `write_report` takes it.
    """
    tables = {table["label"]: table for table in results["tables"]}

    def sign(content: bytes, table: str, gallery: str, arm: str = "", seed: int | None = None, step: int | None = None):
        of = tables[table]
        described: dict[str, Any] = {
            "kind": f"page {'real examples' if gallery == 'real' else gallery}",
            "options": json.dumps({}),
            "comparison": results["name"],
            "dataset": {name: of["dataset"][name] for name in ("name", "fingerprint")},
            "jaxgen": jaxgen.__version__,
        }
        if gallery != "real":
            row = next(row for row in of["rows"] if (row["kind"], row["name"]) == ("trained", arm))
            described |= {"model": row.get("model", arm), "arm": arm, "seed": seed}
            if gallery not in AT_STEPS:
                scored = dict(zip(results["seeds"], row.get("checkpoints") or (), strict=False))
                step = scored.get(seed, row["steps"])
                described["parameters_sha256"] = row["digests"][str(seed)]
            described |= {} if step is None else {"step": step}
        return Seal(keys, described, SOURCES.get(gallery, GENERATED)).signed(content)

    return sign
