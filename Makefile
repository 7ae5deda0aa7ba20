# make run    try the function here: embedded store, one sample event, then it serves
# make test   everything that must hold before a change lands
# make lock   pin the dependencies of pyproject.toml anew
PYTHON ?= python3
PORT ?= 8080
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: run test lock clean
.DEFAULT_GOAL := test

$(INSTALLED): requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or later is needed: make PYTHON=python3.11 ..." >&2; exit 1; }
	@echo "Installing the pinned dependencies into $(VENV) ..."
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@touch $@

test: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

lock: $(INSTALLED)
	$(BIN)/uv pip compile pyproject.toml --upgrade --universal --python-version 3.11 \
		--generate-hashes --no-header --quiet --output-file requirements.txt
	$(BIN)/uv pip compile pyproject.toml --upgrade --group dev --constraints requirements.txt --universal \
		--python-version 3.11 --generate-hashes --no-header --quiet --output-file requirements-dev.txt

clean:
	rm -rf $(VENV) .coverage* .data .hypothesis .mypy_cache .pytest_cache .ruff_cache
