"""The digits that come with scikit-learn, as a TFDS builder."""
