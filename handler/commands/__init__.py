"""The commands of `python -m handler`, one module each."""

import argparse
import os
import sys
import warnings
from collections.abc import Sequence

from handler import VERSION
from handler.commands import (
    deletions,
    messages,
    portals,
    quarantine,
    replay,
    report,
    send,
    status,
    subscription,
)
from handler.console.printing import CommandError
from handler.console.store_opening import StoreOpener
from handler.settings import SettingError, Settings
from handler.stores.interface import StoreError


def main(arguments: Sequence[str]) -> int:
    """Run one command; return the exit code, which is 0 only on success."""
    warnings.simplefilter("ignore", append=True)  # unless Python's -W enables them
    # Texts may contain characters that the terminal's encoding, or that of a file, does not have.
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr] # it is a TextIOWrapper
    parser = argparse.ArgumentParser(
        prog="python -m handler",
        description="Commands for operating the receiver of Bitrix24 open-line deletions.",
        epilog="They use the same settings (environment variables) as the function.",
    )
    parser.add_argument("--version", action="version", version=VERSION)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in (
        status,
        portals,
        deletions,
        messages,
        report,
        quarantine,
        send,
        subscription,
        replay,
    ):
        command.register(commands)
    options = parser.parse_args(arguments)
    try:
        options.settings = Settings.from_environment(os.environ)
        options.open_store = StoreOpener(options.settings)
        code = int(options.run(options))
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 0 if getattr(options, "follow", False) else 130
    except OSError as error:
        if not isinstance(error, BrokenPipeError):  # the reader, such as `| head`, has closed it
            print(f"Input or output failed: {error}", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (SettingError, StoreError, CommandError) as error:
        print(error, file=sys.stderr)
        return 1
    return code
