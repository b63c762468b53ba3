"""Mutation testing: small wrong changes of the code, each of which its own tests should see.

    python -m tests.mutations --number 60 --seed 0 --out experiments/results/mutations.json
    python -m tests.mutations --only jaxgen/statistics

A change is an exchanged operator, another constant, a dropped stop_gradient, or two exchanged arguments. Each is made
in a temporary copy of the checkout, and the tests of its file run there until one fails. A change that none sees
survives, and its diff is printed: a hole in the tests, or a change that makes no difference. A run without an end
counts as seen. 60 changes take about an hour on 2 cores (estimated). The file of --out gets each outcome at once, and
a change that it has of the same source is not tried again.
"""

import argparse
import ast
import difflib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
LIMIT = 300
"""Seconds that the tests of one file may take."""

TESTS = {
    "jaxgen/likelihoods.py": ("tests/models/test_vae.py", "tests/models/test_meshvae.py"),
    "jaxgen/adversarial/losses.py": ("tests/adversarial/test_losses.py",),
    "jaxgen/adversarial/spectral.py": ("tests/adversarial/test_spectral.py",),
    "jaxgen/adversarial/turns.py": ("tests/adversarial/test_turns.py", "tests/adversarial/test_steps.py"),
    "jaxgen/statistics/intervals.py": ("tests/statistics/test_intervals.py",),
    "jaxgen/statistics/permutations.py": ("tests/statistics/test_permutations.py",),
    **{
        f"jaxgen/metrics/{file.stem}.py": (f"tests/metrics/test_{file.stem}.py",)
        for file in sorted((ROOT / "jaxgen" / "metrics").glob("[a-z]*.py"))
    },
    "jaxgen/metrics/checks.py": ("tests/metrics/test_frechet.py", "tests/metrics/test_kernel.py"),
    "jaxgen/metrics/distances.py": ("tests/metrics/test_neighbors.py",),
    "jaxgen/metrics/codes.py": ("tests/evaluation/test_table.py",),
    "jaxgen/metrics/sentences.py": ("tests/metrics/test_written_captions.py",),
    "jaxgen/pictures/sampling.py": ("tests/pictures/test_sampling.py",),
    "jaxgen/evaluation/scorer.py": ("tests/evaluation/test_scorer.py", "tests/comparison/test_selection.py"),
}
"""Map from file to its tests."""

OPERATORS = {
    **{ast.Add: ("+", "-"), ast.Sub: ("-", "+"), ast.Mult: ("*", "/"), ast.Div: ("/", "*"), ast.Pow: ("**", "*")},
    **{ast.FloorDiv: ("//", "*"), ast.Lt: ("<", "<="), ast.LtE: ("<=", "<"), ast.Gt: (">", ">="), ast.GtE: (">=", ">")},
    **{ast.Eq: ("==", "!="), ast.NotEq: ("!=", "==")},
}
"""Map from operator to its symbol and the one it is exchanged for."""

SYMMETRIC = {"min", "max", "minimum", "maximum"}
"""Functions whose arguments may be exchanged."""


class Mutation(NamedTuple):
    """A replacement of bytes [start, end) of a source file."""

    start: int
    end: int
    new: bytes

    def applied(self, source: bytes) -> bytes:
        """The source after the change."""
        return source[: self.start] + self.new + source[self.end :]


def mutations(source: bytes) -> list[Mutation]:
    """All changes of a source, by their place."""
    lines = source.splitlines(keepends=True)
    starts = [sum(map(len, lines[:row])) for row in range(len(lines))]

    def place(node: ast.expr) -> tuple[int, int]:
        return starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset

    def exchanged(left: ast.expr, operator: ast.operator | ast.cmpop, right: ast.expr) -> Iterator[Mutation]:
        old, new = (symbol.encode() for symbol in OPERATORS.get(type(operator), ("", "")))
        start, end = place(left)[1], place(right)[0]
        if old and source.count(old, start, end) == 1:  # not a second time in a comment
            at = source.index(old, start, end)
            yield Mutation(at, at + len(old), new)

    def changes(node: ast.AST) -> Iterator[Mutation]:
        if isinstance(node, ast.BinOp):
            yield from exchanged(node.left, node.op, node.right)
        elif isinstance(node, ast.Compare):
            for left, operator, right in zip([node.left, *node.comparators], node.ops, node.comparators, strict=False):
                yield from exchanged(left, operator, right)
        elif isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float):
            value = node.value
            new = (not value) if isinstance(value, bool) else value + 1 if isinstance(value, int) else 2 * value or 1.0
            yield Mutation(*place(node), repr(new).encode())
        elif isinstance(node, ast.Call) and node.args:
            first, *others = map(place, node.args)
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name == "stop_gradient":
                yield Mutation(*place(node), source[slice(*first)])
            elif others and name not in SYMMETRIC and not any(isinstance(each, ast.Starred) for each in node.args[:2]):
                parts = source[slice(*others[0])], source[first[1] : others[0][0]], source[slice(*first)]
                yield Mutation(first[0], others[0][1], b"".join(parts))

    return sorted(change for node in _computing(ast.parse(source)) for change in changes(node))


def _computing(node: ast.AST) -> Iterator[ast.AST]:
    """Yields a node and all below it, without annotations, and without f-strings, whose parts have no place."""
    yield node
    for name, value in ast.iter_fields(node):
        if name not in ("annotation", "returns"):
            for each in value if isinstance(value, list) else [value]:
                if isinstance(each, ast.AST) and not isinstance(each, ast.JoinedStr):
                    yield from _computing(each)


def passes(folder: Path, tests: tuple[str, ...]) -> bool:
    """True if the tests pass in this copy of the checkout within LIMIT seconds."""
    # Bytecode would be taken for that of the changed file if both were written in the same second.
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled")}
    command = [sys.executable, "-m", "pytest", "-qx", "-p", "no:cacheprovider", "-p", "no:xdist", *tests]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True, **quiet) as process:
        try:
            return process.wait(LIMIT) == 0
        except subprocess.TimeoutExpired:
            return False
        finally:  # with the processes that tests started
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def main() -> None:
    """Draws changes, tries each, and prints those that survive."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=60, help="number of changes")
    parser.add_argument("--seed", type=int, default=0, help="seed of the draws")
    parser.add_argument("--only", default="", help="files whose path begins with this")
    parser.add_argument("--out", type=Path, help="JSON file of the outcomes")
    given = parser.parse_args()
    known = json.loads(given.out.read_text())["changes"] if given.out and given.out.exists() else []
    outcomes: list[dict[str, Any]] = []
    sources = {name: (ROOT / name).read_bytes() for name in TESTS if name.startswith(given.only)}
    every = [(name, change) for name, source in sources.items() for change in mutations(source)]
    chosen = random.Random(given.seed).sample(every, min(given.number, len(every)))
    survived = 0
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "checkout")
        shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(".*", "__pycache__", "runs"))
        passing = set()
        for name, change in sorted(chosen):
            source, changed = sources[name], change.applied(sources[name])
            line = source.count(b"\n", 0, change.start) + 1
            what = {
                "file": name,
                "line": line,
                "old": source[change.start : change.end].decode(),
                "new": change.new.decode(),
                "start": change.start,
                "sha256": hashlib.sha256(source).hexdigest(),
            }
            seen = next((each["killed"] for each in known if each == what | {"killed": each["killed"]}), None)
            if seen is None:
                if name not in passing and not passes(folder, TESTS[name]):
                    sys.exit(f"the tests of {name} fail without a change: {' '.join(TESTS[name])}")
                passing.add(name)
                (folder / name).write_bytes(changed)
                seen = not passes(folder, TESTS[name])
                (folder / name).write_bytes(source)
            survived += not seen
            outcomes.append(what | {"killed": seen})
            if given.out:
                result = {"seed": given.seed, "asked": len(chosen), "possible": len(every), "changes": outcomes}
                given.out.write_text(json.dumps(result, indent=2) + "\n")
            print(f"{'killed' if seen else 'survived'}  {name}:{line}", flush=True)
            if not seen:
                texts = (each.decode().splitlines() for each in (source, changed))
                print(*difflib.unified_diff(*texts, lineterm="", n=1), sep="\n")
    print(f"{len(chosen) - survived} of {len(chosen)} killed, of {len(every):,} possible changes")


if __name__ == "__main__":
    main()
