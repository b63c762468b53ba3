"""Options of scoring, for the command line and experiments."""

from dataclasses import dataclass

from jaxgen.errors import UserError


@dataclass(frozen=True)
class Scoring:
    """Settings of scoring; every field is stored with the scores."""

    metrics: tuple[str, ...] = ()  # families of metrics, as `jaxgen metrics` lists them; the usual ones if not given
    samples: int | None = None  # number per seed; as many as there are training examples, at most 10,000, if not given
    extractor: str | None = None  # .safetensors or .py file that gives the features; the dataset's own if not given
    rejection: int = 1  # draws per sample of models given labels; the one that the judge is surest of is kept
    sampling_seed: int = 0  # seed of all randomness in sampling and scoring
    importance_samples: int = 500  # latents that iwae draws for each test image
    temperatures: int = 1000  # number of temperatures of ais
    examples: int | None = None  # evenly spaced test images for iwae and ais; all for iwae, 100 for ais if not given

    def check(self) -> None:
        """Raises UserError for an invalid value."""
        for name in ("samples", "rejection", "importance_samples", "temperatures", "examples"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{name} must be at least 1, not {value}")
        if not 0 <= self.sampling_seed < 2**31:
            raise UserError(f"sampling_seed must lie between 0 and 2^31 - 1, not {self.sampling_seed}")
