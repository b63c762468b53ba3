"""The mesh VAE on meshes of others: a running horse, an elastic cow and drawn heads, beside PCA, by latent size.

Every number is the mean distance of held-out meshes' vertices from their reconstructions after rigid alignment, in
percent of the diagonal of the box around the mean training mesh; beside it stands PCA with as many components. Features
are aligned vertices: with few meshes, PCA on them is better than PCA on rotation-invariant features, and FaceKit's
heads are in several pieces, which have no such features. The heads are drawn from a linear model, so nothing can be
better than PCA with as many components there, but for chance.

The meshes are in folders beside where this is run, since none may be shipped:

    meshes/horse    horse-gallop and horse-poses of Sumner & Popovic 2004, as .npz or .obj files; copies are left out
    meshes/cow      the elastic cow (pcow) of Briceno et al. 2003
    meshes/heads    ict_facekit_verts.npz, from ICT FaceKit's model; 250 heads are drawn

    jaxgen compare experiments/meshvae_real.py

Time: an estimated 30 minutes on 2 CPU cores (2,780 s of processor time, jax 0.10.2). Expected: below PCA on the horse
with 2 latents, elsewhere PCA wins.

Results of three seeds with 2, 8 and 16 latents, in percent, and in brackets those of PCA with as many components: horse
3.18, 2.40, 2.76 (3.37, 1.18, 0.91), cow 4.55, 4.34, 4.00 (4.50, 2.33, 1.41), heads 0.83, 0.86, 0.88 (0.59, 0.35, 0.27).
PCA wins wherever there is more than the coarsest shape to tell: 26 horses and 162 cows are few for a network's
parameters, a thousand steps are short (the loss still fell, and of the heads 2 latents were not used at all), and the
heads are linear by construction.
"""

from jaxgen.comparison import Arm, Comparison, Experiment, Scoring
from jaxgen.training import Settings

STEPS = 1000


def vertices(latent_dim: int) -> Arm:
    """An arm with so many latents."""
    config = {"features": "aligned", "hidden": (128, 64), "deviation": 0.005, "decay_steps": STEPS}
    return Arm("meshvae", config | {"latent_dim": latent_dim})


experiment = Experiment(
    title="The mesh VAE on real meshes",
    settings=Settings(dataset="mesh_folder", seeds=(0, 1, 2), steps=STEPS, batch_size=16, log_every=200),
    datasets={
        "horse": {"data_from": "meshes/horse", "drop_duplicates": True},
        "cow": {"data_from": "meshes/cow"},
        "heads": {"data_from": "meshes/heads"},
    },
    arms={f"vertices_{latents}": vertices(latents) for latents in (2, 8, 16)},
    scoring=Scoring(metrics=("vertex_error",)),
    comparisons=(Comparison("vertices_8", "vertices_2", "vertex_error"),),
)
