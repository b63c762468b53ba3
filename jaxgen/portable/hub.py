"""A folder for the Hugging Face hub: the model card, a picture of samples, and a description of a user's own data."""

from pathlib import Path

from jaxgen.errors import UserError
from jaxgen.pictures import sample
from jaxgen.portable import croissant
from jaxgen.report import card
from jaxgen.training import folder
from jaxgen.training.folder import Run

PICTURE, CROISSANT = "samples.png", "croissant.json"


def check(run: Run, step: int) -> None:
    """Raises UserError unless a run has ended at `step`: the card describes its last parameters."""
    if not (run.path / folder.RESULT).exists():
        raise UserError(f"{run.path} has not ended: `jaxgen train --resume` ends it")
    last = folder.read_result(run.path)["step"]
    if last != step:
        raise UserError(f"a model card is of a run's last step, {last:,}: leave --checkpoint {step} out, or hub")


def save(made: Path, run: Run, usage: str) -> None:
    """Writes the card, with `usage` as its part on files, and what belongs to it, into the folder `made`."""
    plan = run.plan
    if plan.model.sampler:
        sample(run.path, out=made / PICTURE)
        usage = f"![Samples]({PICTURE})\n\n{usage}"
    (made / card.CARD).write_text(card.rendered(run.path, card.comparison_of(run.path), usage))
    if card.own_data(plan):
        folder.write_json(made / CROISSANT, croissant.described(plan))
