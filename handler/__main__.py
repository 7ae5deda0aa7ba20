"""`python -m handler COMMAND`: what an operator does besides deploying."""

import sys

try:
    from handler.commands import main

    sys.exit(main(sys.argv[1:]))
except ImportError as missing:  # at once, or when a command opens the store
    sys.exit(
        f"{missing}: the commands run in the environment that `make run` makes;"
        " enter it with `. .venv/bin/activate`."
    )
