"""The experiments that come with jaxgen: `jaxgen compare NAME` or `jaxgen compare FILE`."""
