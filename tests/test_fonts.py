"""Letters that Pillow's own font lacks: drawn by an installed font that has them, else escaped."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from jaxgen import fonts
from jaxgen.drawing import captioned, labeled
from jaxgen.fonts import lettering

PILLOWS = ImageFont.load_default(12)


def install(monkeypatch, *files):
    """The only installed fonts."""
    monkeypatch.setattr(fonts, "_files", lambda: tuple(map(str, files)))
    fonts._installed.cache_clear()


@pytest.fixture
def greek(monkeypatch):
    """An installed font with Greek and Cyrillic letters, and one without."""
    found = [
        path
        for path in Path("/usr/share/fonts").rglob("DejaVuSans*.ttf")
        if path.stem in ("DejaVuSans", "DejaVuSans-Bold")
    ]
    if len(found) < 2:
        pytest.skip("DejaVu Sans is not installed")
    install(monkeypatch, *sorted(found))
    yield next(path for path in found if path.stem == "DejaVuSans")
    fonts._installed.cache_clear()


@pytest.mark.parametrize("words", ["cat", "T-shirt/top", "", "a b", "100%"])
def test_letters_of_pillows_font_stay_with_it(monkeypatch, words):
    install(monkeypatch)
    text, font = lettering(words, 12)
    assert (text, font.getname()) == (words, PILLOWS.getname())


@pytest.mark.parametrize("words", ["σκύλος", "собака", "cat σκύλος", "Zürich 3×3"])
def test_other_letters_are_drawn_by_an_installed_font(greek, words):
    """A regular one, whose pixels are those of that font itself."""
    text, font = lettering(words, 12)
    assert (text, font.getname()) == (words, ("DejaVu Sans", "Book"))
    pixels = labeled(np.zeros((1, 4, 200, 1), np.uint8), [(words,)])[0, 4:, :, 0]
    line = Image.new("L", (200, 18))
    ImageDraw.Draw(line).text((4, 2), words, 255, ImageFont.truetype(str(greek), 12))
    np.testing.assert_array_equal(pixels, np.asarray(line))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("犬", r"\u72ac"),
        ("shiba 犬", r"shiba \u72ac"),
        ("いぬ", r"\u3044\u306c"),
        ("개", r"\uac1c"),
        ("🐕", r"\U0001f415"),
    ],
)
def test_letters_that_no_font_has_are_escaped(monkeypatch, words, expected):
    """Escapes keep two classes from looking alike."""
    install(monkeypatch)
    assert lettering(words, 12)[0] == expected
    line = captioned(np.zeros((1, 200, 1), np.uint8), words)
    np.testing.assert_array_equal(line, captioned(np.zeros((1, 200, 1), np.uint8), expected))


def test_of_letters_that_one_font_lacks_only_those_are_escaped(greek):
    text, font = lettering("犬 σκύλος", 12)
    assert (text, font.getname()[0]) == (r"\u72ac σκύλος", "DejaVu Sans")


def test_files_that_are_no_fonts_are_passed_over(monkeypatch, tmp_path, greek):
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    (tmp_path / "empty.otf").write_bytes(b"")
    install(monkeypatch, tmp_path / "broken.ttf", tmp_path / "missing.ttc", tmp_path / "empty.otf", greek)
    assert lettering("собака", 12)[1].getname()[0] == "DejaVu Sans"


def test_fonts_are_found_where_the_platform_keeps_them(monkeypatch, tmp_path, greek):
    """Fonts lie in folders below the shared ones and the user's own."""
    for place in ("share/fonts/truetype/some", "home/.fonts"):
        (tmp_path / place).mkdir(parents=True)
    shutil.copy(greek, tmp_path / "share/fonts/truetype/some/A.TTF")
    shutil.copy(greek, tmp_path / "home/.fonts/b.ttf")
    (tmp_path / "share/fonts/fonts.dir").write_text("")
    monkeypatch.undo()
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_DATA_DIRS", str(tmp_path / "share"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    fonts._files.cache_clear()
    assert [Path(path).name for path in fonts._files()] == ["A.TTF", "b.ttf"]
    fonts._files.cache_clear()
