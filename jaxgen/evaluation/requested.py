"""Metrics requested for a table: which of them apply, reasons why others do not, and warnings about their scores."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from jaxgen import models
from jaxgen.data import Dataset
from jaxgen.errors import UserError
from jaxgen.evaluation.extractor import Extractor
from jaxgen.evaluation.options import Scoring
from jaxgen.evaluation.table import (
    DOUBTS,
    FAMILIES,
    FAMILY_OF,
    MODELS,
    SAMPLES,
    SPACES,
    Column,
    Context,
    Family,
    columns,
    scores_samples,
)
from jaxgen.model import Model
from jaxgen.training.plan import Plan


class Requested(NamedTuple):
    """The metrics of one table, and the models and images that they apply to."""

    dataset: Dataset  # its test split is the one that samples are scored against
    scoring: Scoring
    num: int  # samples per seed
    split: str  # name of that test split in messages
    networks: Callable[[], tuple[Extractor | None, Extractor | None]]  # extractor and judge, called only if used

    @property
    def names(self) -> tuple[str, ...]:
        """Requested families of metrics; if none are named, the usual ones, and more without an extractor."""
        spec = self.dataset.spec
        untold = spec.subject == "image" and "label" not in spec.entries and self.scoring.extractor is None
        more = {"pixelwise": untold, "of_meshes": spec.subject == "mesh"}
        usual = [
            name
            for name, family in FAMILIES.items()
            if family.usual or any(given and getattr(family, which) for which, given in more.items())
        ]
        return self.scoring.metrics or tuple(usual)

    def context(
        self, model: Model | None = None, labeled: bool = True, networks: bool = True, captioned: bool = True
    ) -> Context:
        """Inputs available to metrics of a model, or of examples; without `networks` none is trained for it."""
        extractor, judge = self.networks() if networks else (None, None)
        return Context(self.dataset, extractor, judge, model, labeled, captioned)

    def check(self, plans: Sequence[Plan], labeled: bool = True) -> None:
        """Raises UserError if a requested metric applies to no model of `plans`, or to no examples without plans."""
        if self.scoring.rejection > 1 and not any("label" in plan.model.conditions for plan in plans):
            who = " and ".join(plan.model_name for plan in plans) or "these examples"
            raise UserError(f"rejection applies to models given labels, not to {who}")
        tested = len(self.dataset.test[self.dataset.spec.subject])
        for name in self.names:
            least = FAMILIES[name].least
            if scores_samples(name) and self.num < least:
                raise UserError(f"metric {name} needs {least} samples or more, not {self.num}")
            if scores_samples(name) and tested < least:
                raise UserError(f"metric {name} needs {least} {self.split} examples or more, not {tested}")
        # What needs no network comes first: a network may have to be trained.
        for name in sorted(self.scoring.metrics, key=lambda name: FAMILIES[name].networks):
            reasons = [self.lacks(name, plan.model) for plan in plans]
            if not plans:
                context = self.context(None, labeled, FAMILIES[name].networks, captioned=False)
                reasons = [FAMILIES[name].lacks(context) if scores_samples(name) else "a score of models only"]
            if all(reasons):
                who = " and ".join(plan.model_name for plan in plans) or "these examples"
                able = [
                    other
                    for other in models.MODELS
                    if plans and other not in {plan.model_name for plan in plans} and not self._reason_of(name, other)
                ]
                hint = f"; models that can: {', '.join(able)}" if able else ""
                raise UserError(f"metric {name} does not apply to {who}: {reasons[0]}{hint}")

    def _reason_of(self, family: str, name: str) -> str:
        """Reason why a model, by its name in `models.MODELS`, cannot have a metric; "" if it can."""
        module = models.load(name)
        try:
            return self.lacks(family, module.make(module.Config(), self.dataset.spec))
        except (UserError, KeyError):
            return "it is not for such data"

    def lacks(self, family: str, model: Model) -> str:
        """Reason why a model cannot have a metric; "" if it can."""
        if scores_samples(family) and model.sampler is None:
            return "it does not sample"
        given = ("label" in model.conditions, FAMILIES[family].networks, "caption" in model.conditions)
        return FAMILIES[family].lacks(self.context(model, *given))

    def lacks_column(self, key: str, model: Model) -> str:
        """Reason why a model cannot have a column; "" if it can."""
        family, space = FAMILY_OF[key].name, model.likelihood and model.likelihood.space
        if words := self.lacks(family, model):
            return words
        if family == "reconstruction" and (space == "binary") != key.endswith("_binary"):
            return f"its reconstructions are {'' if space == 'binary' else 'not '}of bits"
        asked = "uint8" if key == "bits_per_dimension" else key.rpartition("_")[2]
        if FAMILY_OF[key] in MODELS and family != "reconstruction" and asked in SPACES and asked != space:
            return f"its likelihood is of {space} images"
        return ""

    def families(
        self, table: Sequence[Family], model: Model | None, labeled: bool, captioned: bool = False
    ) -> list[Family]:
        """Rows of `table` that are requested and can be computed."""
        context = self.context(model, labeled, captioned=captioned)
        return [family for family in table if family.name in self.names and not family.lacks(context)]

    def absent(self, model: Model | None, labeled: bool) -> dict[str, str]:
        """Map from column to the reason why it has no number."""
        context = self.context(model, labeled, captioned=model is not None and "caption" in model.conditions)
        names = [name for name in self.names if model is not None or scores_samples(name)]
        reasons = {name: FAMILIES[name].lacks(context) for name in names}
        if model is not None and model.sampler is None:
            reasons |= dict.fromkeys((family.name for family in SAMPLES), "it does not sample")
        return {key: reasons[family.name] for key, family in FAMILY_OF.items() if reasons.get(family.name)}

    def left_out(self, rows: Sequence[dict[str, Any]]) -> dict[str, str]:
        """Reasons by family, for families of metrics that no model, and no given examples, has a score of."""
        why = {}
        for name in self.names:
            keys = [column.key for column in FAMILIES[name].columns]
            scored = [row for row in rows if row["kind"] in ("trained", "given")]
            if not any(key in row["values"] for row in scored for key in keys):
                reasons = [row["notes"][key] for row in scored for key in keys if key in row["notes"]]
                why[name] = reasons[0] if reasons else "a score of models only"
        return why

    def columns(self, keys: set[str]) -> list[Column]:
        """Columns of these keys, in the order of a table."""
        return columns(self.context(), self.scoring, self.num, keys)

    def doubts(self, row: dict[str, Any], seeds: Sequence[int]) -> dict[str, str]:
        """Map from column to the reason why a row's numbers mislead, with the seeds that it is about if not all are."""
        found: dict[str, str] = {}
        for doubt in DOUBTS if row["kind"] != "untrained" else ():  # nobody takes an untrained model's for good
            values = row["values"].get(doubt.key, [])
            low = [value is not None and value < doubt.limit for value in values]
            if any(low):
                every = sum(low) == sum(value is not None for value in values)
                meant = [str(seed) for seed, is_low in zip(seeds, low, strict=False) if is_low]
                words = doubt.words if every else f"{doubt.words} (seed{'s'[: len(meant) > 1]} {' '.join(meant)})"
                found |= {key: words for key in doubt.columns if key in row["values"]}
        return found

    def doubtful(self, rows: Sequence[dict[str, Any]]) -> list[str]:
        """Sentences on the numbers that mislead."""
        sentences = []
        for row in rows:
            doubts = row.get("doubts", {})
            for words in dict.fromkeys(doubts.values()):
                titles = [column.title for column in self.columns({key for key in doubts if doubts[key] == words})]
                sentences.append(f"{row['name']}: {', '.join(titles)}: {words}")
        return sentences

    def warnings(self, keys: set[str]) -> list[str]:
        """Sentences on columns whose numbers are of too few examples."""
        titles = [column.title for column in self.columns({key for key in keys if FAMILY_OF[key].many})]
        if not titles:
            return []
        real = self.dataset.test[self.dataset.spec.subject]
        few, dimensions = min(self.num, len(real)), self.context().extractor.features(real[:1]).shape[1]
        if few > dimensions:
            return []
        return [
            f"{' and '.join(titles)} of {few:,} examples with {dimensions:,} features each say little: "
            "more examples than features are needed"
        ]
