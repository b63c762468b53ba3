"""Kept results: files below experiments/results, each of a commit of the repository, so that it can be made again."""

from pathlib import Path

from jaxgen.errors import UserError

RESULTS = Path(__file__).parent / "results"


def check_commit(made_by: str | None, what: str) -> None:
    """Raises UserError, about `what`, unless `made_by` is a commit without changes."""
    if not made_by or made_by.endswith("+"):
        of = f"of {made_by[:7]} with changes" if made_by else "of no commit"
        raise UserError(f"{what} by code {of}: run it again from a clean checkout")


def check_kept(out: Path | None) -> None:
    """Raises UserError if `out` is a file below `RESULTS` that code with changes would write."""
    if out and out.resolve().is_relative_to(RESULTS.resolve()):
        from jaxgen.training.environment import commit  # late: it imports JAX

        check_commit(commit(), f"{out} would be made")
