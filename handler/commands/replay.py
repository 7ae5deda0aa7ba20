"""`replay`: store the records from dead letters, logged while Firestore was unavailable."""

import argparse
import codecs
import json
import re
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from handler.console.printing import CommandError, store_deadline
from handler.log import count
from handler.records.dead_letter import NOT_RECORDED
from handler.records.recorder import Recorder, as_decided
from handler.records.replay import Replay, read_letters
from handler.stores.interface import Store

_EXPORT: Final = (
    "Export the log with: gcloud logging read 'jsonPayload.outcome=\"not_recorded\"' --project=ID"
    " --bucket=bitrix24-deletions-dead-letters --location=europe-west1 --view=_AllLogs"
    " --freshness=400d --format=json (docs/operate.md, Replay)"
)

# A Cloud Logging field at the start of a line: gcloud's default output.
_YAML: Final = re.compile(
    r"^(---|(- )?(insertId|jsonPayload|logName|severity|textPayload|timestamp):)", re.MULTILINE
)
# An array of entries, not a log line's prefix in brackets; without its end, it is incomplete.
_ARRAY: Final = re.compile(r"\s*\[\s*\{")
# A line of field names: the first line of `--format=csv` and of the Logs Explorer's CSV.
_CSV: Final = re.compile(r'\s*"?[\w.]+"?(,"?[\w. ]*"?)+\s*')


def register(commands: Any) -> None:  # noqa: ANN401 - argparse does not name the type
    """Add the command to the parser."""
    parser = commands.add_parser(
        "replay",
        help="store records that were logged while Firestore was unavailable",
        description=__doc__,
    )
    parser.add_argument(
        "file",
        metavar="FILE",
        help="a saved log: the function's lines, or the output of `gcloud logging read"
        " --format=json`; - is standard input",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=_replay)


def _replay(options: argparse.Namespace) -> int:
    name = "Standard input" if options.file == "-" else options.file
    text = _decode(_read(options.file))
    letters, damaged = read_letters(text)
    if not letters and (nothing := _why_nothing(text, damaged)):
        raise CommandError(f"{name} {nothing} {_EXPORT}")
    store: Store = options.open_store()
    found = sum(len(letter.records) for letter in letters)
    if not options.json:
        lines = count(len(letters), "line")
        print(f"{count(found, 'lost record')} in {lines} of {name}, for {store.name}.", flush=True)
    settings = as_decided(options.settings)
    recorder = Recorder(options.open_store, settings, lambda: datetime.now(UTC))
    replay = Replay(store, recorder, store_deadline)
    for letter in letters:
        replay.take(letter)
    done = replay.finish()
    problems = [*(f"Line {line}: damaged." for line in damaged), *done.problems]
    if _ARRAY.match(text) and "]" not in text.rpartition("}")[2]:
        problems.append(
            f"{name} ends within its list: the export was interrupted. Export it again."
        )
    for sentence in [*problems, *done.notes]:
        print(sentence, file=sys.stderr)
    result = {**asdict(done), **vars(done.counts), "problems": problems}
    del result["counts"]
    if options.json:
        print(json.dumps({"store": store.name, "found": found, **result}))
    else:
        print(
            f"{done.counts.recorded} recorded, {done.counts.duplicates} already recorded,"
            f" {done.quarantined} quarantined, {done.forged} skipped as forged, {done.unknown} of"
            f" unknown portals, {count(len(problems), 'problem')}."
        )
    return 1 if problems else 0


def _read(file: str) -> bytes:
    try:
        if file == "-":
            return sys.stdin.buffer.read()
        return Path(file).read_bytes()
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror}.") from None


def _decode(saved: bytes) -> str:
    """Decode UTF-8 or UTF-16 (written by PowerShell's `>`); never fails."""
    if saved.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return saved.decode("utf-16", errors="replace")
    if b"\0" in saved[:2]:
        big = saved.startswith(b"\0")
        return saved.decode("utf-16-be" if big else "utf-16-le", errors="replace")
    return saved.decode("utf-8-sig", errors="replace")


def _why_nothing(text: str, damaged: list[int]) -> str | None:
    """Say why a text has no lost records; `None` if its lines are damaged."""
    lines = text.strip().splitlines()
    if not lines:
        return "is empty: nothing was found, or the command that wrote it failed."
    if lines == ["[]"]:
        return (
            "is an empty list: no matching line was found. Check the project, the filter and the"
            " time range (gcloud searches one day back without --freshness)."
        )
    if _YAML.search(text):
        return "is YAML, gcloud's default format, which cannot be replayed."
    if _CSV.fullmatch(lines[0]):
        return "is CSV, which does not contain complete records and cannot be replayed."
    if damaged:
        return None
    return (
        f"has no line whose outcome is {NOT_RECORDED} ({count(len(lines), 'line')} read): nothing"
        " was lost in that time, or this is a different log."
    )
