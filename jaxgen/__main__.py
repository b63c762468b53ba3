"""`python -m jaxgen`."""

from jaxgen.cli import program

program()
