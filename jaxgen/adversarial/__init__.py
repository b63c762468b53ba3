"""Adversarial training: losses, the players' turns, and what regularizes the discriminator."""
