"""`python -m handler COMMAND`: what an operator does besides deploying."""

import sys

try:
    from handler.commands import main
except ModuleNotFoundError as missing:
    sys.exit(
        f"{missing}: the commands run in the environment that `make run` makes;"
        " enter it with `. .venv/bin/activate`."
    )

sys.exit(main(sys.argv[1:]))
