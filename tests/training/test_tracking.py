"""Data sent to W&B, read from the files of its offline mode."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from jaxgen.errors import UserError
from jaxgen.training import Settings, train
from jaxgen.training.record import Record


def quiet(out, **options):
    settings = Settings(seeds=(4, 1), steps=options.pop("steps", 2000), batch_size=100, log_every=2, sample_every=4)
    return train("naive_bayes", None, settings, out=out, progress=False, **options)


def records(file):
    """Reads the records of a .wandb file, in LevelDB's log format.

    After 7 bytes there are blocks of 32 KiB, of parts with a checksum, 4 bytes, a length, 2, and a kind, 1: whole (1),
    first (2), middle (3) or last (4).
    """
    from wandb.proto.wandb_internal_pb2 import Record

    data, start, found, part = file.read_bytes(), 7, [], b""
    while start < len(data):
        left = 2**15 - start % 2**15
        if left < 7:
            start += left
            continue
        length, kind = int.from_bytes(data[start + 4 : start + 6], "little"), data[start + 6]
        part += data[start + 7 : start + 7 + length]
        start += 7 + length
        if kind in (1, 4):
            found, part = [*found, Record.FromString(part)], b""
    return found


def told(file):
    """Returns (the run, its config, {step: {name: value}}), with dots in names of nested values."""
    run, config, rows = None, {}, {}
    for record in records(file):
        if record.HasField("run"):
            run = record.run
            config |= {item.key: json.loads(item.value_json) for item in run.config.update}
        for item in record.history.item:
            rows.setdefault(record.history.step.num, {})[".".join(item.nested_key)] = json.loads(item.value_json)
    return run, config, rows


@pytest.mark.slow
def test_wandb_is_told_what_tensorboard_is(tmp_path, monkeypatch):
    """There is one W&B run per seed, resumed with the run, with metrics, config and the grids' pixels."""
    wandb = pytest.importorskip("wandb")
    wandb.teardown()
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
    path = tmp_path / "counts"
    quiet(path, steps=6, wandb="digits")
    quiet(path, resume=True, wandb="digits")
    wandb.teardown()  # its own process may write the files' ends after a run's
    kept = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    ids = json.loads((path / "wandb.json").read_text())
    assert list(ids) == ["4", "1"]
    for seed in (4, 1):
        files = sorted(
            path.glob(f"wandb/offline-run-*/run-{ids[str(seed)]}.wandb"), key=lambda file: file.stat().st_mtime
        )
        (run, config, first), (again, _, second) = map(told, files)
        assert (run.project, run.run_group, run.display_name) == ("digits", "counts", f"counts-seed-{seed}")
        assert run.run_id == again.run_id == ids[str(seed)]
        assert (config["model"], config["seed"]) == ("naive_bayes", seed)
        assert config["settings"]["batch_size"] == 100
        rows = {step: row["examples"] for step, row in {**first, **second}.items() if "examples" in row}
        assert rows == {row["step"]: row["examples"] for row in kept if row["seed"] == seed}
        assert sorted(rows) == [2, 4, 6, 8, 9]
        pictures = {step: row["samples.path"] for step, row in {**first, **second}.items() if "samples.path" in row}
        assert sorted(pictures) == [0, 4, 6, 8, 9]
        (image,) = path.glob(f"wandb/offline-run-*{ids[str(seed)]}/files/{pictures[8]}")
        grid = np.asarray(Image.open(path / "samples" / f"seed-{seed}" / "step-0000008.png"))
        np.testing.assert_array_equal(np.asarray(Image.open(image).convert("L")), grid[::4, ::4])


def test_without_the_package_it_is_said_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=r"wandb is not installed: pip install 'jaxgen\[wandb\]'"):
        quiet(tmp_path / "run", wandb="digits")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_what_wandb_refuses_is_said_before_anything_is_written(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    wandb.teardown()  # a process reads its settings once
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))

    def refused(words, project="digits"):
        with pytest.raises(UserError, match=words) as raised:
            quiet(tmp_path / "run", wandb=project)
        assert "\n" not in str(raised.value)
        assert not (tmp_path / "run").exists()

    refused("wandb must name a project", " ")
    refused("W&B failed: .*project", "team/digits")
    monkeypatch.setattr(wandb, "login", lambda prompt: False)
    refused("not logged in to W&B: run `wandb login`, or set WANDB_MODE=offline to send the runs later")

    def fail(prompt):
        raise wandb.errors.AuthenticationError("the key\nwas revoked")

    monkeypatch.setattr(wandb, "login", fail)
    refused("W&B failed: the key was revoked")


@pytest.mark.slow
def test_a_run_that_ends_by_an_error_is_told_to_have_failed(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    wandb.teardown()
    monkeypatch.setenv("WANDB_MODE", "offline")

    metrics = Record.metrics

    def fail(self, step, *rest):
        if step == 6:
            raise RuntimeError("full disk")
        return metrics(self, step, *rest)

    monkeypatch.setattr(Record, "metrics", fail)
    with pytest.raises(RuntimeError, match="full disk"):
        quiet(tmp_path / "run", wandb="digits")
    wandb.teardown()  # as above
    files = list(tmp_path.glob("run/wandb/offline-run-*/run-*.wandb"))
    assert [record.exit.exit_code for file in files for record in records(file) if record.HasField("exit")] == [1, 1]
