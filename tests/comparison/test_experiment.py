"""Experiment files: valid contents, errors that name the field in one line, and candidates of sweeps."""

import importlib
import sys

import numpy as np
import pytest
from PIL import Image

from jaxgen.comparison import LogUniform, Sweep, Uniform, compare
from jaxgen.comparison.experiment import candidates, load_experiment
from jaxgen.errors import UserError
from jaxgen.provenance import keys

FILE = '''"""Two arms."""
from jaxgen.comparison import Arm, Comparison, Experiment, LogUniform, Scoring, Sweep, Uniform
from jaxgen.training import Settings

fields = dict(
    title="Two",
    settings=Settings(seeds=(0, 1), steps=4),
    arms={{"one": Arm("vae"), "two": Arm("naive_bayes")}},
)
fields |= dict({0})
experiment = Experiment(**fields)
'''


def written(path, changes):
    (path / "two.py").write_text(FILE.format(changes))
    return path / "two.py"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ("arms=['vae']", "arms is a dict of at least one Arm by its name"),
        ("arms={'../x': Arm('vae')}", "arm name '../x' cannot be a folder's name"),
        ("settings={}", "settings is a Settings(...), not {}"),
        ("scoring=Scoring(metrics=('fid',))", "unknown metric 'fid'"),
        ("datasets=['mnist']", "datasets is a dict of settings by the name of a table"),
        ("datasets={'a/b': {}}", "dataset name 'a/b' cannot be a folder's name"),
        ("datasets={'a': 'mnist'}", "dataset 'a' takes a dict of the settings that differ on it"),
        ("datasets={'a': {'image_sise': 16}}", "dataset 'a' has no field 'image_sise': did you mean image_size?"),
        ("datasets={'a': {'seeds': (5,)}}", "dataset 'a' has seeds of its own"),
        *(
            (
                f"comparisons=(Comparison('one', 'two', '{key}_continuous'),)",
                f"comparison 1 is by {key}_continuous, a density of levels that are not dequantized, which grows",
            )
            for key in ("log_prob", "iwae", "ais", "distortion")
        ),
        ("checkpoint='log_prob_continuous'", "use log_prob_uint8, of models with likelihood logistic or categorical"),
        ("checkpoint='best'", "checkpoint is by 'best', no column of the table; there are fd, "),
        ("checkpoint='rate'", "checkpoint is by rate, of which neither more nor less is better"),
        ("comparisons=[('one', 'two', 'fd')]", "comparison 1 is no Comparison(a, b, metric)"),
        ("comparisons=[Comparison('one', 'three', 'fd')]", "comparison 1 names arm 'three'; there are one, two"),
        ("comparisons=[Comparison('one', 'one', 'fd')]", "comparison 1 is of one with itself"),
        ("comparisons=[Comparison('one', 'fd', 'fd')]", "comparison 1 is of fd with itself"),
        (
            "comparisons=[Comparison('one', 'vertex_error_pca', 'fd')]",
            "comparison 1 is of fd with vertex_error_pca, which is no baseline of it",
        ),
        (
            "comparisons=[Comparison('one', 'precision', 'recall')]",
            "comparison 1 is of recall with precision, which is no baseline of it",
        ),
        ("comparisons=[Comparison('one', 'two', 'fid')]", "comparison 1 is by 'fid', no column of the table"),
        ("comparisons=[Comparison('one', 'two', 'fd', 'a')]", "names dataset 'a'; there are none, as datasets names"),
        (
            "comparisons=[Comparison('one', 'two', 'fd'), Comparison('two', 'one', 'fd')]",
            "comparison 2, of two and one by fd, is declared twice",
        ),
        ("arms={'one': Arm('vae', {}, 'grid')}", "the sweep of arm 'one' is a Sweep(fields, metric)"),
        ("arms={'one': Arm('vae', {}, Sweep({}, 'fd'))}", "is a Sweep(fields, metric) of at least one field"),
        (
            "arms={'one': Arm('vae', {'features': 8}, Sweep({'features': (8,)}, 'fd'))}",
            "field 'features' stands in the arm's config too",
        ),
        ("arms={'one': Arm('vae', {}, Sweep({'features': 8}, 'fd'))}", "field 'features' takes a tuple of values"),
        (
            "arms={'one': Arm('vae', {}, Sweep({'deviation': Uniform(0, 1)}, 'fd'))}",
            "field 'deviation' is drawn, so draws has to say how often",
        ),
        (
            "arms={'one': Arm('vae', {}, Sweep({'deviation': LogUniform(0, 1)}, 'fd', draws=3))}",
            "field 'deviation' goes from 0 to 1, which is no range",
        ),
        ("arms={'one': Arm('vae', {}, Sweep({'features': (8,)}, 'fd', draws=0))}", "draws and steps are at least 1"),
        (
            "arms={'one': Arm('vae', {}, Sweep({'features': (8,)}, 'fd', steps='1'))}",
            "field steps takes int or nothing",
        ),
        (
            "arms={'one': Arm('vae', {}, Sweep({'features': (8,)}, 'fd', seeds=(1, 7)))}",
            "seed 1 is one of the comparison's; candidates need seeds of their own",
        ),
        ("arms={'one': Arm('vae', {}, Sweep({'features': (8,)}, 'rate'))}", "is by rate, of which neither more nor"),
    ],
)
def test_a_fault_is_one_line_that_names_the_field(tmp_path, changes, words):
    with pytest.raises(UserError) as error:
        load_experiment(written(tmp_path, changes))
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ("datasets={'rings': {'dataset': 'gaussians/ring'}}", "arm one on rings: "),
        ("datasets={'none': {'dataset': 'mnits'}}", "arm one on none: unknown dataset 'mnits'"),
        ("arms={'one': Arm('vae', {'features': 0})}", "arm one on digits: features must be above 0"),
        ("arms={'one': Arm('vae', {}, Sweep({'features': (4, 0)}, 'fd'))}", "arm one on digits: features must be"),
        (
            "comparisons=[Comparison('one', 'two', 'iwae_uint8')], scoring=Scoring(metrics=('iwae',))",
            "the comparison of one and two is by iwae_uint8, but two (naive_bayes) has none: it has no densities",
        ),
        (
            "comparisons=[Comparison('one', 'two', 'log_prob_binary')]",
            "by log_prob_binary, but one (vae) has none: its likelihood is of uint8 images",
        ),
        (
            "arms={'one': Arm('vae'), 'two': Arm('vae', {'latent_dim': 2})}, scoring=Scoring(metrics=('iwae',)), "
            "comparisons=[Comparison('one', 'two', 'iwae_binary')]",
            "by iwae_binary, but one (vae) has none: its likelihood is of uint8 images",
        ),
        (
            "arms={'one': Arm('vae', {'likelihood': 'bernoulli'}), 'two': Arm('vae')}, "
            "scoring=Scoring(('reconstruction',)), comparisons=[Comparison('one', 'two', 'mse')]",
            "by mse, but one (vae) has none: its reconstructions are of bits",
        ),
        (
            "comparisons=[Comparison('one', 'two', 'kid')]",
            "the comparison of one and two is by kid, but the metrics do not name kid",
        ),
        (
            "comparisons=[Comparison('one', 'vertex_error_pca', 'vertex_error')], "
            "scoring=Scoring(metrics=('vertex_error',))",
            "metric vertex_error does not apply to vae and naive_bayes: the data are no meshes",
        ),
        ("checkpoint='accuracy'", "checkpoint is by accuracy, but one (vae) has none: it does not classify"),
        (
            "arms={'one': Arm('vae', {}, Sweep({'features': (4,)}, 'accuracy'))}",
            "the sweep of one is by accuracy, but one (vae) has none",
        ),
    ],
)
def test_what_cannot_run_is_said_before_anything_trains(tmp_path, changes, words):
    with pytest.raises(UserError) as error:
        compare(written(tmp_path, changes), out=tmp_path / "out", progress=False)
    assert words in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("first", ["digits", "plain"])
@pytest.mark.parametrize("dataset", ["'digits'", "None"])
def test_a_comparison_is_by_a_metric_of_each_of_its_datasets(first, dataset, tmp_path):
    """Images without labels have more usual metrics: parzen is one of them, not of digits."""
    (tmp_path / "images").mkdir()
    for number in range(80):
        image = np.random.default_rng(number).integers(0, 256, (8, 8), np.uint8)
        Image.fromarray(image).save(tmp_path / "images" / f"{number}.png")
    plain = {"dataset": "image_folder", "data_from": str(tmp_path / "images")}
    datasets = {first: {}, "plain": plain, "digits": {}} | {"plain": plain}
    arms = "{'one': Arm('vae'), 'two': Arm('gan'), 'three': Arm('vae', {'features': 4})}"
    asked = f"[Comparison('one', 'two', 'parzen', 'plain'), Comparison('one', 'three', 'parzen', {dataset})]"
    file = written(tmp_path, f"datasets={datasets}, arms={arms}, comparisons={asked}")
    with pytest.raises(UserError) as error:
        compare(file, out=tmp_path / "out", progress=False)
    words = "the comparison of one and three is by parzen, but the metrics of digits do not name parzen"
    assert str(error.value) == words


def test_a_grid_is_all_combinations():
    found = candidates(Sweep({"a": (1, 2), "b": ("x", "y", "z")}, "fd"))
    assert len(found) == 6
    assert found[0] == {"a": 1, "b": "x"}
    assert found[-1] == {"a": 2, "b": "z"}


def test_draws_lie_where_they_should_and_are_their_seeds():
    sweep = Sweep({"a": LogUniform(1e-4, 1e-2), "b": Uniform(-1, 3), "c": (5, 7)}, "fd", draws=4000)
    found = candidates(sweep)
    a, b, c = (np.array([each[name] for each in found]) for name in "abc")
    for share in (np.log(a / 1e-4) / np.log(100), (b + 1) / 4):
        assert 0 <= share.min() < 0.01
        assert 0.99 < share.max() <= 1
        assert abs(share.mean() - 0.5) < 4 / np.sqrt(12 * 4000)  # of a uniform number
    assert abs((c == 5).mean() - 0.5) < 4 * 0.5 / np.sqrt(4000)
    assert candidates(sweep) == found
    assert candidates(Sweep(sweep.fields, "fd", draws=4000, seed=1)) != found


class TrainedError(Exception):
    """Raised in place of training."""


@pytest.mark.parametrize(("seeds", "count"), [((0,), 2), ((0, 1, 2, 3), 2), ((0, 1, 2, 3, 4), 0)])
def test_too_few_seeds_are_said_before_anything_trains(tmp_path, monkeypatch, capfd, seeds, count):
    def train(*_, **__):
        raise TrainedError

    monkeypatch.setattr("jaxgen.comparison.runs.train", train)
    changes = (
        "comparisons=[Comparison('one', 'two', 'fd'), Comparison('one', 'two', 'precision')], "
        f"settings=Settings(seeds={seeds}, steps=4)"
    )
    with pytest.raises(TrainedError):
        compare(written(tmp_path, changes), out=tmp_path / "out")
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("not enough seeds to tell")]
    assert len(lines) == count
    if count:
        assert lines[0].startswith("not enough seeds to tell one and two apart by fd: ")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ("", ["one", "two"]),
        (
            "datasets={'small': {'dataset': 'digits'}, 'large': {'image_size': 16}}",
            ["one on small", "two on small", "one on large", "two on large"],
        ),
    ],
)
def test_lines_about_a_run_begin_with_its_arm(tmp_path, monkeypatch, changes, expected):
    names = []
    monkeypatch.setattr("jaxgen.comparison.runs.train", lambda *_, name, **__: names.append(name))
    module = importlib.import_module("jaxgen.comparison.compare")  # whose name in the package is the function's
    monkeypatch.setattr(module, "_table", lambda *_: {"rows": [], "metrics": []})
    monkeypatch.setattr(module.contents, "pictures", lambda *_: {})
    monkeypatch.setattr(module, "write_report", lambda *_: "page")
    monkeypatch.setattr(module.folder, "write_json", lambda *_: None)
    compare(written(tmp_path, changes), out=tmp_path / "out", progress=False)
    assert names == expected


def test_signing_is_tried_before_anything_is_trained(tmp_path, monkeypatch):
    """The keys reach the page, and the page's command signs; without keys or c2pa-python there is one line."""
    pytest.importorskip("c2pa", reason="c2pa-python comes with the extra provenance")
    module = importlib.import_module("jaxgen.comparison.compare")
    trained, given = [], []
    monkeypatch.setattr("jaxgen.comparison.runs.train", lambda *_, name, **__: trained.append(name))
    monkeypatch.setattr(module, "_table", lambda *_: {"rows": [], "metrics": []})
    monkeypatch.setattr(module.contents, "pictures", lambda *_: {})
    monkeypatch.setattr(module, "write_report", lambda results, *of: given.append((results["command"], of[-1])))
    monkeypatch.setattr(module.folder, "write_json", lambda *_: None)
    monkeypatch.setenv("JAXGEN_KEYS_DIR", str(tmp_path / "keys"))
    file = written(tmp_path, "")
    with pytest.raises(UserError, match=r"no keys in .*: `jaxgen keys make` makes them"):
        compare(file, out=tmp_path / "out", sign=True, progress=False)
    keys.make(tmp_path / "keys")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "c2pa", None)
        with pytest.raises(UserError, match="this needs c2pa: pip install"):
            compare(file, out=tmp_path / "out", sign=True, progress=False)
    assert trained == []
    for sign in (True, False):
        compare(file, out=tmp_path / "out", sign=sign, progress=False)
    assert trained == ["one", "two"] * 2
    (signing, used), (plain, unused) = given
    assert (used, unused) == (keys.own_keys(), None)
    assert signing == f"{plain} --sign"
