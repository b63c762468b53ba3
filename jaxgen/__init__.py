"""jaxgen: image-generating models as pure JAX functions, trained and compared over many seeds."""

__version__ = "0.1.0"
