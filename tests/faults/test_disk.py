"""Full disks, folders without write permission, rows half written, and damaged compiled programs."""

import contextlib
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from jaxgen.errors import UserError
from jaxgen.training import Settings, loop, train
from jaxgen.training.folder import checkpoint_steps
from jaxgen.training.status import verified

TRAIN = (
    *(sys.executable, "-m", "jaxgen", "train", "vae", "--network", "mlp", "--hidden", "256", "--latent-dim", "4"),
    *("--batch-size", "8", "--log-every", "4", "--checkpoint-every", "4", "--sample-every", "100"),
)


def run(
    *args: str | Path, most: int | None = None, env: Mapping[str, str] = MappingProxyType({})
) -> subprocess.CompletedProcess:
    """Runs training in a process whose files may not exceed so many bytes."""
    command = [*TRAIN, *map(str, args)]
    if most is not None:  # not by preexec_fn, as JAX has threads in this process
        limit = f"import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({most}, {most}))"
        command = [sys.executable, "-c", f"{limit}; os.execv(sys.argv[1], sys.argv[1:])", *command]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env={**os.environ, **env})


@contextlib.contextmanager
def small_disk(folder: Path, size: int):
    """Mounts a file system of so many bytes; skips the test if this user may not mount one."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this user may not mount a file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The digest of twelve uninterrupted steps, and the same run's folder after eight."""
    path = tmp_path_factory.mktemp("whole")
    digests = run("--steps", "12", "--out", path / "twelve").stdout.splitlines()[-1:]
    assert digests[0].startswith("digest")
    assert run("--steps", "8", "--out", path / "eight").returncode == 0
    return digests, path / "eight"


@pytest.mark.slow
def test_a_file_that_cannot_grow_loses_nothing_before_it(whole, tmp_path):
    digests, eight = whole
    out = Path(shutil.copytree(eight, tmp_path / "run"))
    failed = run("--steps", "12", "--out", out, "--resume", most=60_000)
    assert failed.returncode == 2
    error = f"jaxgen: error: cannot save a checkpoint in {out}/checkpoints: File too large. Those before it are kept"
    assert failed.stderr.splitlines()[-1] == error
    assert "Traceback" not in failed.stderr
    assert checkpoint_steps(out) == [4, 8]
    assert all(whole for _, _, whole in verified(out))
    assert run("--steps", "12", "--out", out, "--resume").stdout.splitlines()[-1:] == digests


@pytest.mark.slow
def test_a_full_disk_loses_nothing_before_it(whole, tmp_path):
    digests, eight = whole
    with small_disk(tmp_path / "disk", 3_000_000) as disk:
        out = Path(shutil.copytree(eight, disk / "run"))
        filler = disk / "filler"
        free = os.statvfs(disk)
        filler.write_bytes(bytes(free.f_bavail * free.f_frsize - 200_000))
        failed = run("--steps", "12", "--out", out, "--resume")
        assert failed.returncode == 2
        assert "No space left on device" in failed.stderr.splitlines()[-1]
        assert "Traceback" not in failed.stderr
        assert checkpoint_steps(out) == [4, 8]
        assert all(whole for _, _, whole in verified(out))
        filler.unlink()
        assert run("--steps", "12", "--out", out, "--resume").stdout.splitlines()[-1:] == digests


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_compiled(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "_train", lambda *_: pytest.fail("it began to train"))
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=rf"^cannot write {tmp_path}/file/in/run: Not a directory$"):
        train("vae", None, Settings(steps=1), out=tmp_path / "file" / "in" / "run")
    if os.geteuid():  # root may write everywhere
        (tmp_path / "closed").mkdir(mode=0o500)
        with pytest.raises(UserError, match="Permission denied"):
            train("vae", None, Settings(steps=1), out=tmp_path / "closed" / "run")


@pytest.mark.parametrize("torn", [1, 30, 110])
def test_a_torn_last_row_is_mended_and_none_is_there_twice(tmp_path, torn):
    small = {"network": "mlp", "hidden": (8,), "latent_dim": 2}
    how = Settings(seeds=(0, 1), steps=8, batch_size=8, log_every=2, checkpoint_every=4, sample_every=100)
    first = train("vae", small, how, out=tmp_path / "run", progress=False)
    rows = (first.path / "metrics.jsonl").read_text()
    shutil.rmtree(first.path / "checkpoints" / "8")  # as if killed between the rows of a step
    (first.path / "result.json").unlink()
    (first.path / "metrics.jsonl").write_text(rows[:-torn])
    assert train("vae", small, how, out=first.path, resume=True, progress=False).digests() == first.digests()
    assert (first.path / "metrics.jsonl").read_text() == rows


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Empties content, cuts it off, or flips a bit."""
    how, place = rng.randrange(3), rng.randrange(len(content))
    flipped = content[:place] + bytes([content[place] ^ 1 << rng.randrange(8)]) + content[place + 1 :]
    return (b"", content[:place], flipped)[how]


@pytest.mark.slow
def test_damaged_compiled_programs_are_compiled_anew(whole, tmp_path):
    digests, _ = whole
    kept = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "compiled")}
    assert run("--steps", "12", "--out", tmp_path / "first", env=kept).stdout.splitlines()[-1:] == digests
    files = sorted((tmp_path / "compiled").glob("*-cache"))
    assert files
    rng = random.Random(0)
    for file in files:
        file.write_bytes(damaged(file.read_bytes(), rng))
    second = run("--steps", "12", "--out", tmp_path / "second", env=kept)
    assert second.stdout.splitlines()[-1:] == digests
    assert "Error reading persistent compilation cache entry for 'jit_chunk'" in second.stderr


@pytest.mark.slow
def test_programs_are_compiled_where_they_cannot_be_kept(whole, tmp_path):
    (tmp_path / "file").touch()
    kept = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "file" / "compiled")}
    done = run("--steps", "12", "--out", tmp_path / "run", env=kept)
    assert done.stdout.splitlines()[-1:] == whole[0]
    assert "Traceback" not in done.stderr
