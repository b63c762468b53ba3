"""Croissant description (JSON-LD, version 1.0) of a user's own data, as the hub and catalogs read it.

Source: https://docs.mlcommons.org/croissant/docs/croissant-spec.html.
"""

import glob
from pathlib import Path
from typing import Any

from jaxgen.data.given import DATASET
from jaxgen.data.image_files import SUFFIXES
from jaxgen.portable import run_files
from jaxgen.training.plan import Plan, file_digest

CONFORMS_TO = "http://mlcommons.org/croissant/1.0"

TERMS = "citeAs column equivalentProperty extract field fileObject fileProperty fileSet format includes isLiveDataset "
TERMS += "jsonPath key md5 parentField path recordSet references regex repeated replace samplingRate separator source "
TERMS += "subField transform"
"""Croissant's own terms, with spaces between them."""

CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    **{name: f"cr:{name}" for name in TERMS.split()},
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
}
"""The context that Croissant prescribes."""


IMAGES = ("png", "jpeg", "webp", "tiff")
"""Kinds of images that folders may hold."""


def described(plan: Plan) -> dict[str, Any]:
    """Description of a run's data: their files, classes and, of a folder of images, records.

    The files themselves are no part of it, and arrays given in Python have none; `identifier` is the fingerprint of
    what was decoded.
    """
    dataset = run_files.dataset_of(plan)
    place, pattern = _divided(Path(plan.settings.data_from or plan.settings.dataset))
    of_images, of_arrays = plan.settings.dataset == "image_folder", plan.settings.dataset_name == DATASET
    content: dict[str, Any] = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "name": place.stem,
        "description": dataset.note,
        "conformsTo": CONFORMS_TO,
        "identifier": f"sha256:{dataset.fingerprint}",
        "distribution": [] if of_arrays else [_files(place, pattern, of_images)],
        "recordSet": [],
    }
    if dataset.classes:
        content["recordSet"].append(_classes(dataset.classes))
    if of_images and place.is_dir():
        content["recordSet"].append(_examples(labeled=bool(dataset.classes)))
    return content


def _divided(place: Path) -> tuple[Path, str]:
    """The folder above the first part of a path that is a pattern, and the pattern; "" if there is none."""
    first = next((n for n, part in enumerate(place.parts) if glob.has_magic(part)), None)
    if first is None or place.exists():
        return place, ""
    return Path(*place.parts[:first]), "/".join(place.parts[first:])


def _files(place: Path, pattern: str, of_images: bool) -> dict[str, Any]:
    """A folder of files, which lies beside the description, or one file with its sha256 if it is still there."""
    if not place.is_file():
        patterns = [pattern] if pattern else [f"**/*{suffix}" for suffix in (SUFFIXES if of_images else (".*",))]
        return {
            "@type": "cr:FileSet",
            "@id": "files",
            "name": place.name,
            "encodingFormat": [f"image/{kind}" for kind in IMAGES] if of_images else "application/octet-stream",
            "includes": [f"{place.name}/{each}" for each in patterns],
        }
    return {
        "@type": "cr:FileObject",
        "@id": "files",
        "name": place.name,
        "contentUrl": place.name,
        "encodingFormat": "application/octet-stream",
        "sha256": file_digest(place),
    }


def _classes(names: tuple[str, ...]) -> dict[str, Any]:
    field = {"@type": "cr:Field", "@id": "classes/name", "dataType": "sc:Text"}
    data = [{"classes/name": name} for name in names]
    return {"@type": "cr:RecordSet", "@id": "classes", "key": {"@id": "classes/name"}, "field": [field], "data": data}


def _examples(labeled: bool) -> dict[str, Any]:
    """Images of a folder, with the name of the folder that each lies in if that is its class."""
    image = {"fileSet": {"@id": "files"}, "extract": {"fileProperty": "content"}}
    fields = [{"@type": "cr:Field", "@id": "examples/image", "dataType": "sc:ImageObject", "source": image}]
    if labeled:
        above = {"fileSet": {"@id": "files"}, "extract": {"fileProperty": "fullpath"}}
        above["transform"] = {"regex": ".*/([^/]+)/[^/]+$"}
        fields.append({"@type": "cr:Field", "@id": "examples/class", "dataType": "sc:Text", "source": above})
    return {"@type": "cr:RecordSet", "@id": "examples", "field": fields}
