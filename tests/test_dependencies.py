"""Which source files a module is made of."""

import hashlib
from pathlib import Path

import jaxgen
from jaxgen.dependencies import sources

PACKAGE = Path(jaxgen.__file__).parent


def test_what_a_model_is_made_of():
    found = sources("jaxgen.models.naive_bayes")
    assert "jaxgen/models/naive_bayes.py" in found
    assert "jaxgen/model.py" in found
    assert not {"jaxgen/models/vae.py", "jaxgen/nn/conv.py", "jaxgen/cli/commands.py"} & set(found)
    assert (PACKAGE / "cli" / "commands.py").exists()
    for name, value in found.items():
        assert value == hashlib.sha256((PACKAGE.parent / name).read_bytes()).hexdigest()


def test_imports_are_followed_from_file_to_file():
    found = sources("jaxgen.models.vae")
    assert {
        "jaxgen/models/vae.py",
        "jaxgen/nn/conv.py",
        "jaxgen/nn/image.py",
        "jaxgen/likelihoods.py",
        "jaxgen/errors.py",
    } <= set(found)
    assert set(sources("jaxgen.nn.conv")) <= set(found)
    both = sources("jaxgen.models.vae", "jaxgen.training.loop")
    assert {"jaxgen/training/loop.py", "jaxgen/data/pipeline.py", *found} <= set(both)


def test_imports_of_a_users_file_and_inside_functions(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import numpy\nimport jaxgen.config\nfrom jaxgen import likelihoods\n\n"
        "def make():\n    from jaxgen.nn.optimizer import descend\n"
    )
    found = sources(str(tmp_path / "mine.py"))
    assert {"model.py", "jaxgen/config.py", "jaxgen/likelihoods.py", "jaxgen/nn/optimizer.py"} <= set(found)
    assert found["model.py"] == hashlib.sha256((tmp_path / "mine.py").read_bytes()).hexdigest()
