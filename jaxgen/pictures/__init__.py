"""Pictures of runs and of datasets."""

from jaxgen.pictures.sampling import sample

__all__ = ["sample"]
