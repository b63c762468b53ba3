"""Models outside JAX: their decoders as short lists of equations, and pages that run them."""
