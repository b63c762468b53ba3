"""The page of `jaxgen explore`: one HTML file in which a run's latents, classes and captions can be changed.

page.html lays the content out, with the style of the report's page, page.css, and the scripts interpreter.js and
page.js inlined. Nothing is loaded from outside.
"""

import json
from pathlib import Path
from typing import Any

import markupsafe

from jaxgen import models
from jaxgen.errors import UserError
from jaxgen.files import check_writable, expanded, write_new
from jaxgen.portable.live import LARGEST, NotLive, live
from jaxgen.portable.walks import walk
from jaxgen.report import page
from jaxgen.report.templates import sha256, templates
from jaxgen.training.folder import Run, open_run

FOLDER = Path(__file__).parent
PAGE = "explore.html"


def explore(run: str | Path, *, checkpoint: str | int = "newest", out: str | Path | None = None) -> tuple[Path, str]:
    """Writes a page in which a run's model can be explored; the same call writes the same file.

    The decoder of each seed runs in the page itself, if it can: the page is then a program and its weights. Otherwise
    the page shows images that are computed now: a walk through the latents, or samples. It has as many images of each
    class, classes and seeds as fit into 3 MB.

    Args:
        run: the run folder.
        checkpoint: as `open_run` takes it.
        out: the file, .html; RUN/explore.html if not given.

    Returns:
        The file, and a sentence about its content.

    Raises:
        UserError: there is no run, its model makes no images, two of them do not fit, or the file cannot be written or
            exists with other content.
    """
    opened = open_run(run, checkpoint)
    plan = opened.plan
    out = expanded(out) if out is not None else opened.path / PAGE
    if out.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"a page is written as .html, not as {out.name!r}")
    check_writable(out)
    if plan.model.sampler is None:
        able = models.that_can(lambda model: model.sampler is not None, plan.dataset.spec)
        raise UserError(f"{plan.model_name} makes no images to explore; models that do: {', '.join(able) or 'none'}")
    if plan.dataset.spec.subject == "point":
        raise UserError(f"samples of {plan.dataset.name} are points, not images: `jaxgen sample` draws them")
    html, words = _fitting(opened)
    write_new(out, html)
    return out, words


def _fitting(run: Run) -> tuple[bytes, str]:
    """The page, and a sentence about it."""
    try:
        content = live(run)
    except NotLive as error:
        reason = str(error)
    else:
        seeds = content["seeds"]
        for count in range(len(seeds), 0, -1):
            content["seeds"] = seeds[:count]
            html = _page(run, content, "")
            if len(html) <= LARGEST:
                return html, _live_words(content, count, len(seeds), len(html))
        reason = f"its decoder has {content['numbers']:,} numbers, {len(html) / 1e6:.1f} MB in a page of at most 3"
    for content in walk(run, LARGEST):
        html = _page(run, content, reason)
        if len(html) <= LARGEST:
            return html, _walk_words(run, content, reason, len(html))
    raise UserError(f"{run.plan.model_name} cannot run in a page: {reason}; and two of its images are over 3 MB")


def _live_words(content: dict[str, Any], count: int, seeds: int, size: int) -> str:
    less = f", {count} of {seeds} seeds," if count < seeds else ""
    return (
        f"the decoder runs in the page{less} with {content['numbers']:,} numbers a seed as {content['dtype']}; it "
        f"differs from JAX by at most {content['difference']:.1e}; {size / 1e6:.2f} MB"
    )


def _walk_words(run: Run, content: dict[str, Any], reason: str, size: int) -> str:
    kinds = {"seeds": len(run.plan.settings.seeds), "choices": content["offered"]}
    words = {"seeds": "seeds", "choices": "classes" if content["labels"] else "captions"}
    fewer = [f"{len(content[k])} of {num} {words[k]}" for k, num in kinds.items() if len(content[k]) < num]
    what = f"{content['count']} images of each seed, computed beforehand"
    fitting = f"; only {' and '.join(fewer)} fit" if fewer else ""
    return f"{what}, since {run.plan.model_name} cannot run in a page: {reason}{fitting}; {size / 1e6:.2f} MB"


def _page(run: Run, content: dict[str, Any], reason: str) -> bytes:
    """The HTML file. `reason`: why the model does not run in it; "" if it does."""
    template = templates(FOLDER, html=True).get_template("page.html")
    plan = run.plan
    style = (page.FOLDER / "page.css").read_text() + (FOLDER / "page.css").read_text()
    script = (FOLDER / "interpreter.js").read_text() + (FOLDER / "page.js").read_text()
    # Inside a script element, only these characters could end it.
    data = json.dumps(content, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    html = template.render(
        title=f"{plan.model_name} on {plan.dataset.name}",
        heading=models.heading(plan.model_path),
        step=run.step,
        seeds=plan.settings.seeds,
        left_out=len(plan.settings.seeds) - len(content["seeds"]),
        content=content,
        reason=reason,
        style=markupsafe.Markup(style),
        script=markupsafe.Markup(script),
        data=markupsafe.Markup(data),
        hashes={"style": sha256(style), "script": sha256(script)},
    )
    return html.encode()
