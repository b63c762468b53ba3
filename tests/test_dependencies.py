"""Source files on which a module depends."""

from pathlib import Path

import pytest

import jaxgen
from jaxgen import dependencies
from jaxgen.dependencies import code_digest, function_sources, sources

PACKAGE = Path(jaxgen.__file__).parent


def test_what_a_model_is_made_of():
    found = sources("jaxgen.models.naive_bayes")
    assert "jaxgen/models/naive_bayes.py" in found
    assert "jaxgen/model.py" in found
    assert not {"jaxgen/models/vae.py", "jaxgen/nn/conv.py", "jaxgen/cli/lines.py"} & set(found)
    assert (PACKAGE / "cli" / "lines.py").exists()
    for name, value in found.items():
        assert value == code_digest((PACKAGE.parent / name).read_text())


def test_imports_are_followed_from_file_to_file():
    found = sources("jaxgen.models.vae")
    own = {"jaxgen/models/vae.py", "jaxgen/nn/conv.py", "jaxgen/nn/image.py", "jaxgen/likelihoods.py"}
    assert own <= set(found)
    assert set(sources("jaxgen.nn.conv")) <= set(found)
    both = sources("jaxgen.models.vae", "jaxgen.training.engine", "jaxgen.training.feed")
    assert {"jaxgen/training/engine.py", "jaxgen/training/feed.py", "jaxgen/data/pipeline.py", *found} == set(both)


def test_files_that_only_say_something_are_left_out():
    found = sources("jaxgen.models.mggan", "jaxgen.training.engine", "jaxgen.training.feed")
    words = {"jaxgen/errors.py", "jaxgen/config.py", "jaxgen/progress.py", "jaxgen/training/display.py"}
    assert all((PACKAGE.parent / name).exists() for name in words)
    assert not words & set(found)
    assert {"jaxgen/models/dcgan.py", "jaxgen/models/gan.py", "jaxgen/adversarial/turns.py"} <= set(found)


def test_of_what_models_and_metrics_import_only_words_are_left_out():
    """Every file that a model, a metric or an extractor imports counts, but for these, which compute no number."""
    folders = [PACKAGE / name for name in ("models", "nn", "adversarial", "metrics")]
    files = [file for folder in folders for file in folder.glob("*.py") if file.name != "__init__.py"]
    files += [PACKAGE / name for name in ("heads.py", "autoregressive.py", "deformation.py", "evaluation/extractor.py")]
    imported = {file for path in files for file in dependencies._read(path)[1] if file.name != "__init__.py"}
    left_out = {file.relative_to(PACKAGE).as_posix() for file in imported if not dependencies._computes(file)}
    assert left_out == {"config.py", "errors.py"}


def test_imports_of_a_users_file_and_inside_functions(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import numpy\nimport jaxgen.model\nfrom jaxgen import likelihoods\n\n"
        "def make():\n    from jaxgen.nn.optimizer import descend\n"
    )
    found = sources(str(tmp_path / "mine.py"))
    assert {"model.py", "jaxgen/model.py", "jaxgen/likelihoods.py", "jaxgen/nn/optimizer.py"} <= set(found)
    assert found["model.py"] == code_digest((tmp_path / "mine.py").read_text())


CODE = '''"""A module."""

RATE = 0.5  # a share
"""A share of the rest."""


def take(x):
    """A step."""
    return RATE * x + len("# no comment")
'''


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("A module.", "Another\nmodule.", True),
        ("A step.", "One step of many.", True),
        ("A share of the rest.", "A share\nof what\nremains.", True),
        ("  # a share", "", True),
        ("# a share", "# of all", True),
        ("\n\n\ndef", "\n\ndef", True),
        ("0.5", "0.25", False),
        ("RATE * x", "RATE + x", False),
        ("# no comment", "# another", False),
        ("def take(x)", "def take(y)", False),
    ],
)
def test_a_digest_is_of_code_not_of_words(old, new, same):
    assert CODE.count(old) == 1
    assert (code_digest(CODE.replace(old, new)) == code_digest(CODE)) is same


def test_a_functions_sources_are_its_code_and_what_it_calls(tmp_path):
    """A changed constant, helper in its module, or metric changes the sources; a changed docstring does not."""
    whole = (
        "from jaxgen.metrics.frechet import frechet_distance\n\nK = 5\n\n\ndef helped(x):\n    return x + K\n\n\n"
        'def score(x, y):\n    """A score."""\n    return frechet_distance(helped(x), y)\n'
    )

    def of(text):
        scope = {"__name__": "mine"}
        exec(compile(text, "mine", "exec"), scope)
        return function_sources(scope["score"])

    first = of(whole)
    assert {"function", "jaxgen/metrics/frechet.py", "jaxgen/metrics/checks.py"} == set(first)
    assert of(whole.replace("A score.", "Another.")) == first
    for old, new in (("K = 5", "K = 6"), ("x + K", "x - K"), ("helped(x), y", "y, helped(x)")):
        assert of(whole.replace(old, new))["function"] != first["function"]


def test_a_class_counts_as_a_function_does():
    scope = {"__name__": "mine"}
    exec("from jaxgen.deformation import Deformation\n\ndef score(x):\n    return Deformation(x)\n", scope)
    assert set(function_sources(scope["score"])) == {"function", *sources("jaxgen.deformation")}
