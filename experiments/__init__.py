"""Experiments shipped with jaxgen, run by `jaxgen compare NAME` or `jaxgen compare FILE`."""
