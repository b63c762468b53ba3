"""Templates of pages and cards: a name that is missing is an error, and the lines of tags leave no empty ones."""

import base64
import hashlib
from pathlib import Path

import jinja2


def templates(folder: Path, *, html: bool) -> jinja2.Environment:
    """The templates of a folder; those of HTML escape what is filled in, others keep the last line's end."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=html,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=not html,
    )


def sha256(text: str) -> str:
    """Hash that identifies an inline style or script in a content security policy."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
