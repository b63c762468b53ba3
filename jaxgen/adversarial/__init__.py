"""Adversarial training: losses, the players' turns, and regularization of the discriminator."""
