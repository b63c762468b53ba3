"""Readers of datasets, one file a source; `jaxgen.data.source` says what a reader gives."""
