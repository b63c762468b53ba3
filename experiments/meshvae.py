"""The mesh VAE on bending, twisting bars: aligned vertices against rotation-invariant features, by latent size.

    jaxgen compare experiments/meshvae.py

Every number is the mean distance of held-out meshes' vertices from their reconstructions after rigid alignment, in
percent of the diagonal of the box around the mean training mesh. Beside it stands PCA with as many components, on
aligned vertices and on the features. The bars have about eleven degrees of freedom, so eight latents are the test of a
model that is not linear. Tan et al. 2018 (https://arxiv.org/abs/1709.04307) train on other meshes, so their numbers
cannot be compared.

In the middle of a path between two bars, edge lengths and the volume should be those of the ends. Straight paths of
vertices shrink a bar that bends.

Time: about 40 minutes on 2 CPU cores (estimated). Expected: vertices below PCA on vertices with 2, 8 and 16 latents
(5.2, 2.1 and 0.9%), RIMD below PCA on RIMD with 8 latents (2.05%), and paths of rotation-invariant features that keep
edge lengths within 2% and volumes within 5%.

Not run yet. A trial of the same networks, loss and features in a script of its own (RIMD, 8 latents, 2,000 steps, one
seed, jax 0.10.2 on a CPU) had an error of 1.99% on 120 of the 240 test meshes, as a share of a diagonal of 2.042.
"""

from jaxgen.comparison import Arm, Comparison, Experiment, Scoring
from jaxgen.training import Settings

STEPS = 3000
VERTICES = {"features": "aligned", "hidden": (512, 256), "deviation": 0.005, "decay_steps": STEPS}

experiment = Experiment(
    title="Features of the mesh VAE",
    settings=Settings(dataset="bars", seeds=(0, 1, 2), steps=STEPS, log_every=500),
    arms={
        "vertices_2": Arm("meshvae", {**VERTICES, "latent_dim": 2}),
        "vertices_8": Arm("meshvae", {**VERTICES, "latent_dim": 8}),
        "vertices_16": Arm("meshvae", {**VERTICES, "latent_dim": 16}),
        "rimd_8": Arm("meshvae", {"features": "rimd", "latent_dim": 8, "decay_steps": STEPS}),
        "gradients_8": Arm("meshvae", {"features": "gradients", "latent_dim": 8, "decay_steps": STEPS}),
    },
    scoring=Scoring(metrics=("vertex_error", "mesh_paths", "meshes"), samples=200),
    comparisons=(
        Comparison("vertices_8", "rimd_8", "vertex_error"),
        Comparison("rimd_8", "vertices_8", "path_edges"),
        Comparison("rimd_8", "vertices_8", "path_volume"),
    ),
)
