"""Content verification: signed metadata, signed runs, watermarks, redrawing, and a detector of unlike images.

Every module is a set of functions of bytes and arrays; `jaxgen.pictures.checking` applies them to files and runs.
"""
