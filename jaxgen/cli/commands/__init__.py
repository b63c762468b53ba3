"""The commands: one thin function for each, which imports the heavy packages it needs."""

from collections.abc import Callable

from jaxgen.cli.commands.data import data_command
from jaxgen.cli.commands.images import explore_command, sample_command, verify_image_command
from jaxgen.cli.commands.runs import digest_command, keys_command, runs_command, sign_command, verify_command
from jaxgen.cli.commands.scores import evaluate_command, extractor_command, metrics_command
from jaxgen.cli.commands.sharing import card_command, export_command, import_command
from jaxgen.cli.commands.training import compare_command, models_command, train_command

COMMANDS: dict[str, Callable[[list[str]], int | None]] = {
    "models": models_command,
    "train": train_command,
    "runs": runs_command,
    "verify": verify_command,
    "sign": sign_command,
    "digest": digest_command,
    "sample": sample_command,
    "explore": explore_command,
    "verify-image": verify_image_command,
    "evaluate": evaluate_command,
    "metrics": metrics_command,
    "compare": compare_command,
    "card": card_command,
    "export": export_command,
    "import": import_command,
    "data": data_command,
    "extractor": extractor_command,
    "keys": keys_command,
}
