"""What the fault tests tried and what was survived, counted by running them: README's table of faults.

    python -m tests.faults.tally --kills 50

Runs the tests below and the kills, keeps the figures in tests/faults/tally.json and writes the table of README's
section "When it is interrupted" anew. A test counts once for each of its parameters, or as often as its mark or
property `cases` says; those that are skipped here do not count.
"""

import argparse
import json
import os
import re
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.faults import kills

ROOT = Path(__file__).parents[2]
TALLY, README = Path(__file__).with_suffix(".json"), ROOT / "README.md"
FIRST = "| what happens | what follows | tried | survived, nothing lost |\n|---|---|---|---|\n"
KILLS = "SIGKILL at a random moment, in a save too"


class Fault(NamedTuple):
    """A row: the fault, what must follow, and the tests of it, as patterns of their ids."""

    what: str
    follows: str
    tests: str


FAULTS = [
    Fault(KILLS, "resuming ends with the same bits and rows; `python -m tests.faults.kills --count 50`", r"^$"),
    Fault(
        "SIGTERM (a scheduler) or Ctrl-C",
        "the steps up to the next row are finished and saved; exit status 75 or 130; resuming loses no bit and no row",
        r"test_a_signal_saves|test_a_signal_to_one",
    ),
    Fault(
        "SIGTERM or Ctrl-C before a run has begun, or to another command",
        "one line; exit status 75 or 130; nothing is left",
        r"test_signals.py::test_(while|before|one_that_comes|one_that_waits)",
    ),
    Fault("a second signal in that save", "ends at once; no checkpoint is lost", r"test_a_second_signal"),
    Fault(
        "a checkpoint truncated, emptied, with a bit flipped or a file deleted",
        "told in a line, set aside in `damaged/`, and the one before is used; reading commands refuse it",
        r"test_what_is_damaged|test_every_flipped_bit|test_damage.py.*another_record",
    ),
    Fault("any file of a run edited at random", "refused, or the same parameters", r"test_runs$"),
    Fault(
        "all checkpoints damaged or lost",
        "refused; not begun anew (but where there are rows of two intervals of checkpoints at most, and no result)",
        r"test_where_all_are_damaged|test_a_run_whose_checkpoints_are_lost",
    ),
    Fault(
        "SIGKILL while an old checkpoint is deleted, or before the first step",
        "no damage: the deletion is ended; resuming begins at step 0",
        r"test_a_deletion_that|test_a_folder_that_was_left",
    ),
    Fault(
        "rows, pictures or the result lost or wrong",
        "found by `jaxgen verify`; told on resuming, and the result is made again",
        r"test_each_other_part|test_rows_that_are_lost|test_a_result_that_is_not",
    ),
    Fault(
        "a disk that is full, a file that may not grow",
        "one line, exit status 2; what was saved before is whole, and resuming goes on from it",
        r"test_a_file_that_cannot_grow|test_a_full_disk",
    ),
    Fault("a folder that cannot be written", "refused before anything is compiled", r"test_a_folder_that_cannot"),
    Fault(
        "a second process on the same run; the lock of a dead one",
        "refused, naming the first; taken",
        r"test_a_second_process|test_a_lock_left",
    ),
    Fault(
        "one of several processes killed, or unable to write",
        "all end with an error within the heartbeat, and go on with `--resume`",
        r"test_one_process_is_killed|test_what_the_first_process",
    ),
    Fault(
        "resumed with another config, data, order of the data, or parameters of other shapes",
        "refused, naming the difference",
        r"test_a_changed_parameter|test_another_order_of|test_a_run_holds_its_datas|test_another_run|differs",
    ),
    Fault(
        "a loss, parameter or number of the optimizer not finite",
        "that seed is frozen before it, with its step and batch; the others go on; it is never a score",
        r"test_a_diverged_seed|test_parameters_that_overflow|test_an_optimizer_that_overflows|test_diverged_stays",
    ),
    Fault("a metric not finite", "never the best checkpoint; evicts none", r"test_a_score_that_is_not_finite"),
    Fault("a torn last row of `metrics.jsonl`", "mended; no row twice", r"test_a_torn_last_row"),
    Fault(
        "a compiled program that JAX kept, damaged or not to be written",
        "a warning, compiled anew, the same bits",
        r"test_damaged_compiled|test_programs_are_compiled_where",
    ),
    Fault(
        "images truncated or damaged; odd shapes; labels and captions out of range",
        "named in a line; left out and counted if asked",
        r"test_a_file_cut_off_anywhere|test_a_flipped_bit_of_a_png|test_bad_examples|test_images_that_differ"
        r"|test_a_label_out_of_range|test_wrong_captions|test_fuzz.py::test_images",
    ),
    Fault(
        "prepared data damaged or changed",
        "refused by sha256, naming the file",
        r"test_store.py::test_damage_is|test_every_byte_of_the_manifest|test_changes_to_a_prepared_folder",
    ),
    Fault(
        "command lines, experiment files, folders of images, meshes, extractors at random",
        "one line and exit status 2, or a result that is right by a second reading",
        r"test_fuzz.py::test_(commands|experiment_files|folders|meshes|extractors)",
    ),
]

PLACES = ("tests/faults", "tests/training/test_loop.py", "tests/training/test_feed.py", "tests/data/test_store.py")
PLACES += ("tests/data/readers/test_image_folder.py", "tests/data/readers/test_official.py")


class Count:
    """A plugin of pytest that counts the cases of each fault, and those that passed."""

    def __init__(self):
        self.tried, self.survived = Counter(), Counter()

    def pytest_runtest_setup(self, item) -> None:
        """What a test's mark says goes into its report."""
        for mark in item.iter_markers("cases"):
            item.user_properties.append(("cases", mark.args[0]))

    def pytest_runtest_logreport(self, report) -> None:
        """Of a test's call, or of a fixture that failed before it."""
        if report.skipped or (report.when != "call" and report.passed):
            return
        cases = int(dict(report.user_properties).get("cases", 1))
        for fault in FAULTS:
            if re.search(fault.tests, report.nodeid.partition("[")[0]):
                self.tried[fault.what] += cases
                self.survived[fault.what] += cases * report.passed


def table(readme: str) -> str:
    """README's text with the figures that are kept, a dash where a fault was not counted yet."""
    kept = json.loads(TALLY.read_text()) if TALLY.exists() else {}
    rows = [f"| {what} | {follows} | {' | '.join(map(str, kept.get(what, '--')))} |\n" for what, follows, _ in FAULTS]
    before, _, after = readme.partition(FIRST)
    return before + FIRST + "".join(rows) + "\n" + after.partition("\n\n")[2]


def main() -> None:
    """Counts, keeps, writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="random kills; of 0 the figure that is kept stays")
    given = parser.parse_args()
    os.chdir(ROOT)
    count = Count()
    names = "|".join(fault.tests for fault in FAULTS[1:])
    code = pytest.main(["-q", "--slow", "-p", "no:xdist", *PLACES], plugins=[count, Chosen(names)])
    count.tried[KILLS], count.survived[KILLS] = json.loads(TALLY.read_text()).get(KILLS, (0, 0))
    if given.kills:
        with tempfile.TemporaryDirectory() as folder:
            same = [one for _, one in kills.kills(given.kills, 0, Path(folder))]
        count.tried[KILLS], count.survived[KILLS] = len(same), sum(same)
    kept = {fault.what: (count.tried[fault.what], count.survived[fault.what]) for fault in FAULTS}
    TALLY.write_text(json.dumps(kept, indent=2) + "\n")
    README.write_text(table(README.read_text()))
    for what, (tried, survived) in kept.items():
        print(f"{survived:6,} of {tried:6,}  {what}")
    sys.exit(bool(code) or any(tried != survived or not tried for tried, survived in kept.values()))


class Chosen:
    """A plugin of pytest that leaves out all other tests of these files."""

    def __init__(self, names: str):
        self._names = names

    def pytest_collection_modifyitems(self, items) -> None:
        """Only those of a fault."""
        items[:] = [item for item in items if re.search(self._names, item.nodeid.partition("[")[0])]


if __name__ == "__main__":
    main()
