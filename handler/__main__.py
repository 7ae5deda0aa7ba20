"""`python -m handler COMMAND`: what an operator does besides deploying."""

import sys

from handler.commands import main

sys.exit(main(sys.argv[1:]))
