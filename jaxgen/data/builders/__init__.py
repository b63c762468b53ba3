"""TFDS builders of our own; each lives in a package folder of its own, as TFDS asks."""
