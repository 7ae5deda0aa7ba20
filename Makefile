# make run    try the function here: embedded store, one sample event, then keep serving
# make test   everything that must pass before a change is merged
# make chaos  the suite's chaos test, fifty times longer, and its test of a year, ten times: CHAOS_DELETIONS=50000 YEAR_ROUNDS=10
# make bench  the function's costs compared with references measured in the same run, as a table
# make fuzz   a coverage-guided search for a body that causes a server error: FUZZ_SECONDS=60
# make mutants  mutation testing: which changes of handler/ the tests do not detect (hours)
# make pictures  create the pictures in docs/ again: the report, the terminal
# make audit  known vulnerabilities and the licences of the deployed dependencies
# make lock   pin the dependencies of pyproject.toml again
# make clean  delete the environment, the stores of `make run` and all caches
PYTHON ?= python3
PORT ?= 8080
CHAOS_DELETIONS ?= 50000
CHAOS_SEED ?= 4
YEAR_ROUNDS ?= 10
YEAR_SEED ?= 4
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
TOOLS := $(VENV)/.tools
AXE := tests/browser/node_modules/.package-lock.json
FUZZ_SECONDS ?= 60
# More than a small machine's cores: most tests wait for servers, deadlines and leases.
TEST_PROCESSES ?= 4

.PHONY: help run test chaos bench fuzz mutants pictures audit lock clean
.DEFAULT_GOAL := test

$(INSTALLED): requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or later is needed: make PYTHON=python3.11 ..." >&2; exit 1; }
	@echo "Installing the pinned dependencies into $(VENV) ..."
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@touch $@

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

# axe-core looks for barriers in the report, for readers who cannot see or do not use a mouse.
$(AXE): tests/browser/package-lock.json
	@if command -v npm >/dev/null; then \
		npm ci --prefix tests/browser --ignore-scripts --no-audit --no-fund --silent; \
	else \
		echo "npm is missing, so axe-core will not check the report." >&2; \
	fi

test: $(INSTALLED) $(AXE)
	@command -v chromium >/dev/null || \
		echo "Chromium is missing, so the report will not be tested in a browser: apt-get install chromium" >&2
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest --numprocesses=$(TEST_PROCESSES) --dist=worksteal --cov

chaos: $(INSTALLED)
	CHAOS_DELETIONS=$(CHAOS_DELETIONS) CHAOS_SEED=$(CHAOS_SEED) YEAR_ROUNDS=$(YEAR_ROUNDS) YEAR_SEED=$(YEAR_SEED) \
		$(BIN)/pytest tests/soak

# The sample's portal is entered by hand, since nothing installs an application here. The server has its
# own session: a Ctrl-C that also reaches gunicorn's worker may hang it for half a minute.
run: $(INSTALLED)
	@$(BIN)/python -c 'import sys; sys.exit(not 0 < int(sys.argv[1]) < 65536)' "$(PORT)" 2>/dev/null || \
		{ echo "PORT=$(PORT) is not valid: use a number from 1 to 65535, as in make run PORT=8081" >&2; exit 1; }
	@$(BIN)/python -c 'import socket; socket.create_server(("127.0.0.1", $(PORT)))' 2>/dev/null || \
		{ echo "Port $(PORT) is taken; choose another: make run PORT=8081" >&2; exit 1; }
	@export STORE=local LOCAL_STORE_PATH=.data/try-$(PORT).sqlite3; rm -f "$$LOCAL_STORE_PATH"*; \
	sample() { $(BIN)/python -c "from handler.console import sample_event; print(sample_event.$$1)"; }; \
	$(BIN)/python -m handler portals add --member-id "$$(sample MEMBER_ID)" --token "$$(sample TOKEN)" \
		--domain "$$(sample DOMAIN)" || exit 1; \
	$(BIN)/python -c 'import os, sys; os.setsid(); os.execv(sys.argv[1], sys.argv[1:])' \
		$(BIN)/functions-framework --target=handle --host=127.0.0.1 --port=$(PORT) & server=$$!; \
	trap 'kill $$server 2>/dev/null; wait $$server' EXIT; trap 'exit 0' HUP INT TERM; \
	$(BIN)/python -m handler send --url http://127.0.0.1:$(PORT) --wait 30 \
		--shape documentation --message-id "$$(sample MESSAGE_ID)" || exit 1; \
	echo; echo "The record, as stored:"; $(BIN)/python -m handler deletions --limit 1 --json; \
	echo; echo "Serving on http://127.0.0.1:$(PORT) until Ctrl-C. Delete another message, from another terminal:"; echo; \
	$(BIN)/python -m handler send --url http://127.0.0.1:$(PORT) --curl; echo; \
	wait $$server

bench: $(INSTALLED)
	@$(BIN)/python -m bench

lock: $(INSTALLED)
	$(BIN)/uv pip compile pyproject.toml --upgrade --universal --python-version 3.11 \
		--generate-hashes --no-header --quiet --output-file requirements.txt
	$(BIN)/uv pip compile pyproject.toml --upgrade --group dev --constraints requirements.txt --no-strip-extras \
		--universal --python-version 3.11 --generate-hashes --no-header --quiet --output-file requirements-dev.txt
	$(BIN)/uv pip compile pyproject.toml --upgrade --group dev --group tools --constraints requirements-dev.txt \
		--no-strip-extras --universal --python-version 3.11 --generate-hashes --no-header --quiet --output-file requirements-tools.txt
	$(BIN)/uv pip compile examples/on-deletion/requirements.in --upgrade --universal --python-version 3.11 \
		--generate-hashes --no-header --quiet --output-file examples/on-deletion/requirements.txt

$(TOOLS): requirements-tools.txt $(INSTALLED)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-tools.txt
	@touch $@

fuzz: $(TOOLS)
	$(BIN)/python -m tests.soak.fuzz -max_total_time=$(FUZZ_SECONDS) -max_len=4096

mutants: $(TOOLS)
	$(BIN)/mutmut run
	$(BIN)/mutmut results

pictures: $(INSTALLED)
	$(BIN)/python -m tests.browser.pictures
	$(BIN)/python -m tests.docs.terminal

audit: $(TOOLS)
	$(BIN)/pip-audit --requirement requirements.txt --require-hashes --disable-pip
	$(BIN)/pip-licenses --format=markdown --packages $$(sed -n 's/^\([a-z0-9-]*\)==.*/\1/p' requirements.txt)

clean:
	rm -rf $(VENV) tests/browser/node_modules .coverage* .data/try-* .hypothesis .mypy_cache .pytest_cache .ruff_cache mutants
