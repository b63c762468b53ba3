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
        "SIGTERM, SIGUSR1, SIGUSR2 or SIGXCPU, as a scheduler sends them, SIGHUP, as a closed terminal does, or Ctrl-C",
        "the steps up to the next row are finished and saved; exit status 75, 129 or 130; resuming ends with the same "
        "bits",
        r"test_a_signal_saves|test_a_signal_to_one",
    ),
    Fault(
        "such a signal before a run has begun, or during another command",
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
        r"test_command_line.py::test_a_mistake_is_one_line|test_suffixes_in_upper_case",
    ),
    Fault(
        "random command lines, experiment files, folders of images, meshes and extractors",
        "one line and exit status 2, or a correct result by a second implementation",
        r"test_fuzz.py::test_(commands|experiment_files|folders|meshes|extractors)",
    ),
    Fault(
        "settings of JAX, versions, devices or processor cores differ from the run's",
        "refused if draws or dtypes change; told if rounding can change",
        r"test_environment.py|test_settings_that_(make|round)|test_another_environment_is",
    ),
    Fault(
        "JAX has no such backend, or an environment variable of JAX has an invalid value",
        "one line; commands that only read use the CPU",
        r"test_surroundings.py::test_(a_backend|commands_that|values_that|transfers_that)",
    ),
    Fault(
        "there is no home folder, current folder, docstring (`python -OO`), UTF-8 stream or width of the terminal",
        "the command works, or refuses in one line",
        r"test_surroundings.py::test_(a_user|a_folder|streams|an_error|help|a_current|a_terminal)",
    ),
    Fault(
        "the folder of the training data is moved or changed after training",
        "the run is read without it; a command that needs the data refuses",
        r"test_data_that_are_not_there",
    ),
    Fault(
        "an image folder has another layout, missing splits, duplicates, or captions and labels in a metadata file",
        "read and reported, or refused with the right layout",
        r"test_image_folder.py::test_(the_usual|missing_splits|a_train_folder|folders_(that|without)|classes_that|splits_w"
        r"|a_folder_around|loose_images|images_in_several|composed|an_image_keeps|metadata|captions_in_two)",
    ),
    Fault(
        "images and meshes have an unusual encoding of their format",
        "read exactly, or the error names the feature that is not read",
        r"test_mesh_files.py|test_image_files.py::test_(kinds|orientation|16_bits|compressed|the_first|tiff|a_tiff)"
        r"|test_every_format_keeps",
    ),
    Fault(
        "images have too many pixels, or use few of their 16 bits",
        "told, with the option that helps",
        r"test_images_of_16_bits|test_a_large_photo|test_image_files.py::test_(decompression|the_limit|pillows|the_bits)",
    ),
    Fault(
        "damaged images or meshes are left out",
        "no other changes its split, and no split is empty",
        r"test_a_bad_(image|file)_that_is_left_out|test_a_split_has_images",
    ),
    Fault(
        "images of another system are in an archive, or have other ranges, channels, files or class names",
        "recognized and reported, or refused with advice",
        r"test_foreign.py|test_samples_as_a_folder",
    ),
    Fault(
        "a result could not be written, or a metric lacks examples",
        "refused before the work",
        r"tests/test_files.py::test_(a_place|scores|a_comparison)|test_few.py::test_what_is_known",
    ),
    Fault(
        "scores say little: the classifier is weak, there are fewer examples than features, or too few seeds",
        "a warning beside the scores; of too few seeds before training",
        r"test_scorer.py::test_the_accuracy|test_distances_of_fewer|test_the_warning_stands|test_too_few_seeds"
        r"|test_what_is_foretold",
    ),
    Fault(
        "stderr or stdout is no terminal, or the terminal is narrow",
        "a line of progress from time to time; names stay whole",
        r"test_display.py|test_names_are_whole|test_in_a_pipe|test_lists_fit|test_models_lists_every",
    ),
    Fault(
        "a file of the user imports files beside it, or is changed between two uses",
        "executed once, with the files of its own folder; a run keeps copies",
        r"test_user_files.py",
    ),
    Fault(
        "a model file's convolutions are slow on a CPU; a likelihood or a map does not suit the images",
        "told once; the defaults follow the data",
        r"test_slow_convolutions.py|test_defaults.py|test_what_a_likelihood_is_of",
    ),
    Fault(
        "examples are sorted by class, or are frames of sequences; images have several captions",
        "pictures show every class; `--split-blocks` keeps neighbors in one split; one caption is drawn an epoch",
        r"test_drawing.py::test_(examples_that|of_classes)|test_contents.py|test_blocks|test_too_few_blocks"
        r"|test_images_with_several|test_one_caption",
    ),
    Fault(
        "several threads, worker processes or commands work at once",
        "the same bits as one after the other; the first result at a place stays",
        r"tests/test_files.py::test_(another|of_many|a_run_folder)|test_trainings_in_threads|_workers|test_worker_process",
    ),
]

PLACES = ("tests/faults", "tests/training", "tests/data", "tests/evaluation", "tests/comparison", "tests/cli")
PLACES += ("tests/test_config.py", "tests/test_drawing.py", "tests/test_files.py", "tests/test_fonts.py")
PLACES += ("tests/test_user_files.py", "tests/models/test_defaults.py", "tests/pictures/test_sampling.py")
PLACES += ("tests/report/test_contents.py",)


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
