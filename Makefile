# Two commands do everything: make demo, make test. Each sets up what it needs, inside this folder.
# Tests start many hundred processes, half of a test is waiting: compiled code is kept, and two tests run at once.
PYTHON ?= python3
BIN := .venv/bin
RUN := $(BIN)/uv run --frozen --no-sync
export PYTHONDONTWRITEBYTECODE :=
.PHONY: demo test check bench slow setup format

demo: setup
	@$(RUN) longwatch demo $(ARGS)

test: setup
	@$(RUN) pytest --numprocesses 2 --dist worksteal $(ARGS)

slow: setup
	@$(RUN) pytest -m "slow and not alone" --numprocesses 2 --dist worksteal --timeout 900 --durations 12 $(ARGS)
	@$(RUN) pytest -m "slow and alone" --timeout 900 --durations 5 $(ARGS)

check: setup
	@$(RUN) ruff format --check .
	@$(RUN) ruff check .
	@$(RUN) mypy longwatch bench docs $(filter-out %/conftest.py tests/typing/fails.py,$(wildcard tests/*.py tests/*/*.py))
	@for file in $(wildcard tests/conftest.py tests/*/conftest.py); do $(RUN) mypy $$file || exit 1; done
	@$(RUN) pyright
	@$(RUN) pytest tests/tidy --ignore tests/tidy/test_pages_run.py

format: setup
	@$(RUN) ruff format .
	@$(RUN) ruff check --fix .

bench: setup
	@$(BIN)/uv sync --frozen --quiet --group bench
	@$(RUN) python -m bench $(ARGS)

setup: .venv/ready

.venv/ready: pyproject.toml uv.lock
	@test -x $(BIN)/uv || { $(PYTHON) -m venv .venv && $(BIN)/python -m pip install --quiet --disable-pip-version-check uv; }
	@$(BIN)/uv sync --frozen --quiet
	@touch $@
