"""`python -m handler COMMAND`: everything an operator does apart from deploying."""

import sys

try:
    from handler.commands import main

    sys.exit(main(sys.argv[1:]))
except ImportError as missing:  # here, or when a command opens the store
    sys.exit(
        f"{missing}: run the commands in the environment that `make run` creates; activate it with"
        " `. .venv/bin/activate`."
    )
