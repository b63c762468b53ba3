"""Counts the faults that tests injected and those that were handled, and writes the table of docs/runs.md.

    python -m tests.faults.tally --kills 50

Runs the tests below and the kills, stores the counts in tests/faults/tally.json and writes the table of the section
"When a run is interrupted". A test counts once for each of its parameters, or as often as its mark or property `cases`
says; skipped tests do not count.
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
TALLY, PAGE = Path(__file__).with_suffix(".json"), ROOT / "docs" / "runs.md"
FIRST = "| what happens | what follows | tried | survived, nothing lost |\n|---|---|---|---|\n"
KILLS = "SIGKILL at a random moment, also during a save"


class Fault(NamedTuple):
    """Row of the table: a fault, the required outcome, and its tests, as patterns of their ids."""

    what: str
    follows: str
    tests: str


FAULTS = [
    Fault(
        KILLS,
        "resuming ends with the same bits and rows; `python -m tests.faults.kills` repeats the test",
        r"^$",
    ),
    Fault(
        "SIGTERM, as a scheduler sends it, SIGHUP, as a closed terminal does, or Ctrl-C",
        "the steps up to the next row are finished and saved; exit status 75, 129 or 130; resuming ends with the same "
        "bits",
        r"test_a_signal_saves|test_a_signal_to_one",
    ),
    Fault(
        "SIGTERM, SIGHUP or Ctrl-C before a run has begun, or during another command",
        "one line; exit status 75, 129 or 130; nothing is left behind",
        r"test_signals.py::test_(while|before|one_that_comes|one_that_waits)",
    ),
    Fault(
        "a second signal, during the save or while XLA computes",
        "it ends within a second; no checkpoint is lost",
        r"test_a_second_signal|test_signals.py::test_(a_second|two_at_once)",
    ),
    Fault(
        "stdin, stdout or stderr is closed, or its reader gone",
        "the run goes on to its end, with the same bits",
        r"test_surroundings.py::test_a_run_(goes_on|without)",
    ),
    Fault(
        "a checkpoint is truncated, emptied or renamed, a bit of it flipped, or a file of it deleted",
        "reported in one line and moved to `damaged/`, and the one before is used; commands that only read refuse it",
        r"test_what_is_damaged|test_every_flipped_bit|test_damage.py.*another_record",
    ),
    Fault("any file of a run is edited at random", "the run is refused, or has the same parameters", r"test_runs$"),
    Fault(
        "all checkpoints are damaged or lost",
        "refused; training restarts only where the rows span at most two checkpoint intervals and there is no result",
        r"test_where_all_are_damaged|test_a_run_whose_checkpoints_are_lost",
    ),
    Fault(
        "SIGKILL while an old checkpoint is being deleted, or before the first step",
        "no damage: the deletion is finished; resuming starts at step 0",
        r"test_a_deletion_that|test_a_folder_that_was_left",
    ),
    Fault(
        "rows, pictures or the result are lost or wrong",
        "`jaxgen verify` finds it; resuming reports it and writes the result again",
        r"test_each_other_part|test_rows_that_are_lost|test_a_result_that_is_not",
    ),
    Fault(
        "the disk is full, or a file may not grow",
        "one line, exit status 2; earlier checkpoints stay intact, and the run resumes from them",
        r"test_a_file_that_cannot_grow|test_a_full_disk",
    ),
    Fault("the folder cannot be written", "refused before anything is compiled", r"test_a_folder_that_cannot"),
    Fault(
        "a second process trains in the same folder; a dead process left its lock",
        "the second is refused, and the error names the first; the lock is taken over",
        r"test_a_second_process|test_a_lock_left",
    ),
    Fault(
        "one of several processes is killed, or cannot write",
        "all end with an error within JAX's heartbeat, and resume with `--resume`",
        r"test_one_process_is_killed|test_what_the_first_process",
    ),
    Fault(
        "resuming with another config, dataset, order of the data, or parameters of other shapes",
        "refused, and the error names the difference",
        r"test_a_changed_parameter|test_another_order_of|test_a_run_holds_its_datas|test_another_run|differs",
    ),
    Fault(
        "a loss, a parameter or a number of the optimizer is not finite",
        "the seed is frozen before the step, which is recorded with its batch; the others continue; it gets no score",
        r"test_a_diverged_seed|test_parameters_that_overflow|test_an_optimizer_that_overflows|test_diverged_stays",
    ),
    Fault(
        "a metric is not finite",
        "its checkpoint is never the best, and replaces none",
        r"test_a_score_that_is_not_finite",
    ),
    Fault("the last row of `metrics.jsonl` is torn", "repaired; no row is written twice", r"test_a_torn_last_row"),
    Fault(
        "a program in JAX's compilation cache is damaged, or cannot be written",
        "a warning; the program is compiled again, with the same bits",
        r"test_damaged_compiled|test_programs_are_compiled_where",
    ),
    Fault(
        "images are truncated or damaged or have odd shapes; labels or captions are out of range",
        "the error names the file; `--skip-bad` leaves such images out and counts them",
        r"test_a_file_cut_off_anywhere|test_a_flipped_bit_of_a_png|test_bad_examples|test_images_that_differ"
        r"|test_a_label_out_of_range|test_wrong_captions|test_wrong_metadata|test_wrong_csv|test_metadata_neither"
        r"|test_a_file_of_another_kind|test_a_key_that_is_there_twice|test_fuzz.py::test_images",
    ),
    Fault(
        "a zip file is damaged or of another system, or holds two files of one name; arrays have other names, shapes "
        "or ranges",
        "read with their labels, or refused with advice",
        r"test_foreign.py::test_(paths_in|images_in|images_of_one|arrays_that|arrays_of|each_other|folders_that)",
    ),
    Fault(
        "a variable of JAX names a device that is not here, or has a value that cannot be",
        "one line that names the variable; commands that only read use the CPU",
        r"test_surroundings.py::test_(a_backend|commands_that|values_that|transfers_that|settings_that_make)",
    ),
    Fault(
        "prepared data are damaged or changed",
        "refused by their sha256, and the error names the file",
        r"test_store.py::test_damage_is|test_every_byte_of_the_manifest|test_changes_to_a_prepared_folder",
    ),
    Fault(
        "a model file breaks the contract, or its Config holds what JSON cannot",
        "refused before anything is compiled, and the error names the field",
        r"test_the_field_of_a_mistake|test_a_config_that_json|test_config.py::test_what_(json_cannot|would_come)",
    ),
    Fault(
        "images have no labels, and metrics need them",
        "scored by what can be, and what was left out is listed with its reason; a metric asked for is refused",
        r"test_scorer.py::test_(images_without_labels|images_of_another_system_without|a_metric_of_)",
    ),
    Fault(
        "class names have letters that Pillow's font lacks",
        "drawn in an installed font that has them, or escaped",
        r"test_fonts.py::test_(other_letters|letters_that_no|of_letters|files_that)",
    ),
    Fault(
        "a command or an option is misspelled, goes by another tool's name, or has a value that cannot be",
        "one line, exit status 2, and what was meant",
        r"test_command_line.py::test_a_mistake_is_one_line",
    ),
    Fault(
        "random command lines, experiment files, folders of images, meshes and extractors",
        "one line and exit status 2, or a correct result by a second implementation",
        r"test_fuzz.py::test_(commands|experiment_files|folders|meshes|extractors)",
    ),
]

PLACES = ("tests/faults", "tests/training/test_loop.py", "tests/training/test_feed.py", "tests/data/test_store.py")
PLACES += ("tests/cli/test_surroundings.py",)
PLACES += ("tests/data/test_image_files.py", "tests/data/readers/test_image_folder.py")
PLACES += ("tests/data/readers/test_official.py", "tests/training/test_contract_check.py", "tests/test_config.py")
PLACES += ("tests/test_fonts.py", "tests/evaluation/test_scorer.py", "tests/cli/test_command_line.py")
PLACES += ("tests/evaluation/test_foreign.py",)


class Count:
    """Plugin for pytest that counts the cases of each fault, and those that passed."""

    def __init__(self):
        self.tried, self.survived = Counter(), Counter()

    def pytest_runtest_setup(self, item) -> None:
        """Copies a test's mark `cases` to its report."""
        for mark in item.iter_markers("cases"):
            item.user_properties.append(("cases", mark.args[0]))

    def pytest_runtest_logreport(self, report) -> None:
        """Counts the report of a test's call, or of a fixture that failed before it."""
        if report.skipped or (report.when != "call" and report.passed):
            return
        cases = int(dict(report.user_properties).get("cases", 1))
        for fault in FAULTS:
            if re.search(fault.tests, report.nodeid.partition("[")[0]):
                self.tried[fault.what] += cases
                self.survived[fault.what] += cases * report.passed


def table(text: str) -> str:
    """Returns the chapter's text with the stored counts; a dash marks a fault that was not counted yet."""
    kept = json.loads(TALLY.read_text()) if TALLY.exists() else {}
    rows = [f"| {what} | {follows} | {' | '.join(map(str, kept.get(what, '--')))} |\n" for what, follows, _ in FAULTS]
    before, _, after = text.partition(FIRST)
    return before + FIRST + "".join(rows) + "\n" + after.partition("\n\n")[2]


def main() -> None:
    """Counts faults, stores the counts, and writes the table."""
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
    PAGE.write_text(table(PAGE.read_text()))
    for what, (tried, survived) in kept.items():
        print(f"{survived:6,} of {tried:6,}  {what}")
    sys.exit(bool(code) or any(tried != survived or not tried for tried, survived in kept.values()))


class Chosen:
    """Plugin for pytest that deselects all tests of these files without a fault."""

    def __init__(self, names: str):
        self._names = names

    def pytest_collection_modifyitems(self, items) -> None:
        """Keeps only the tests of a fault."""
        items[:] = [item for item in items if re.search(self._names, item.nodeid.partition("[")[0])]


if __name__ == "__main__":
    main()
