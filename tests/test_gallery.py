"""The gallery: its page, the commands on it, and one sheet."""

import dataclasses
import shlex

import pytest
from PIL import Image

from experiments import gallery
from jaxgen.cli import commands
from jaxgen.models import MODELS, load
from jaxgen.training import Settings


class StartedError(Exception):
    """Raised when a command would begin its work."""


def test_every_model_has_a_sheet():
    assert set(gallery.SHEETS) == set(MODELS)


def test_the_page_shows_the_sheets_that_are_there():
    """The page must be what `python -m experiments.gallery` writes."""
    text = (gallery.DOCS / "gallery.md").read_text()
    assert text == gallery.page(gallery.sheets())
    for name in MODELS:
        assert (f"](gallery/{name}.png)" in text) == (gallery.DOCS / "gallery" / f"{name}.png").is_file()


def test_a_page_without_sheets_names_the_models():
    page = gallery.page({"vae"})
    assert page.count("![") == 1
    assert "![vae](gallery/vae.png)" in page
    assert "Not drawn yet: `classifier`, `naive_bayes`, `autoencoder`, `meshvae`" in page


@pytest.mark.parametrize("model", MODELS)
def test_the_commands_train_and_draw_what_the_program_does(model, monkeypatch):
    calls = {}

    def called(name):
        def call(*args, **kwargs):
            calls[name] = (args, kwargs)
            raise StartedError

        return call

    monkeypatch.setattr("jaxgen.training.train", called("train"))
    monkeypatch.setattr("jaxgen.pictures.sample", called("sample"))
    monkeypatch.setattr("jaxgen.training.compiled.keep_compiled", lambda: None)
    for line in gallery.commands(model):
        command, *argv = shlex.split(line)[1:]
        with pytest.raises(StartedError):
            commands.COMMANDS[command](argv)
    config, settings, picture = gallery.SHEETS[model]
    (name, trained, with_settings), _ = calls["train"]
    assert name == model
    assert dataclasses.replace(load(model).Config(), **config) == trained
    assert Settings(**settings) == with_settings
    (run, *kind), drawn = calls["sample"]
    given = drawn | ({"kind": kind[0]} if kind else {})
    assert str(run) == f"runs/gallery/{model}"
    assert {field: given[field] for field in picture} == picture


def test_a_sheet_is_drawn_and_put_on_the_page(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gallery, "DOCS", tmp_path / "docs")
    monkeypatch.setattr(gallery, "RUNS", tmp_path / "runs")
    gallery.draw(("naive_bayes",))
    file = tmp_path / "docs" / "gallery" / "naive_bayes.png"
    assert capsys.readouterr().out == f"{file}\n"
    with Image.open(file) as picture:  # ten classes of five, 16 pixels a side, with lines between them
        assert picture.width * 169 == picture.height * 84
    assert (tmp_path / "docs" / "gallery.md").read_text() == gallery.page({"naive_bayes"})
