"""`replay`: store what the log kept while Firestore was away."""

import argparse
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from handler.commands.console import CommandError, store_deadline
from handler.records.recorder import Recorder
from handler.records.replay import Replay, read_letters


def register(commands: Any) -> None:  # noqa: ANN401 - argparse does not name the type
    """Add the command to the parser."""
    parser = commands.add_parser(
        "replay", help="store what the log kept while Firestore was away", description=__doc__
    )
    parser.add_argument(
        "file",
        metavar="FILE",
        help="a saved log: the function's lines, or what `gcloud logging read --format=json`"
        " prints; - is standard input",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=_replay)


def _replay(options: argparse.Namespace) -> int:
    letters, damaged = read_letters(_read(options.file))
    store = options.open_store()
    recorder = Recorder(options.open_store, options.settings, lambda: datetime.now(UTC))
    replay = Replay(store, recorder, store_deadline)
    for letter in letters:
        replay.take(letter)
    done = replay.finish()
    problems = [*(f"line {line}: damaged" for line in damaged), *done.problems]
    for problem in problems:
        print(problem, file=sys.stderr)
    result = {**vars(done.counts), "quarantined": done.quarantined, "forged": done.forged}
    if options.json:
        print(json.dumps({**result, "problems": problems}))
    else:
        print(
            f"{done.counts.recorded} recorded, {done.counts.duplicates} known already,"
            f" {done.quarantined} quarantined, {done.forged} skipped as forged,"
            f" {len(problems)} problems."
        )
    return 1 if problems else 0


def _read(file: str) -> str:
    try:
        if file == "-":
            return sys.stdin.read()
        return Path(file).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror}.") from None
