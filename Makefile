# Two commands for a newcomer: `make demo` and `make test`. Each builds its own environment in .venv first.
# TORCH=cpu takes the small CPU build of PyTorch (uv knows where it lies); by default the standard build is taken.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
RUN := OMP_NUM_THREADS=1 $(BIN)/python

.PHONY: setup demo test check lint types imports licences docs slow hostile bench relations relations-oldest constraints clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "winnow needs Python 3.11 or newer; name one with PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^uv==' constraints.txt)"
	$(BIN)/uv pip install --python $(BIN)/python --compile-bytecode --constraint constraints.txt \
		$(if $(TORCH),--torch-backend=$(TORCH)) --editable ".[dev]"
	@touch $(STAMP)

demo: setup
	@$(BIN)/winnow demo

test: setup
	$(RUN) -m pytest -m "not slow"

check: setup lint types imports licences docs slow hostile

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

imports: setup
	$(BIN)/python scripts/check_imports.py

licences: setup
	$(BIN)/python scripts/check_licences.py

docs: setup
	$(RUN) scripts/build_docs.py

slow: setup
	$(RUN) -m pytest -m slow

# The folder of hostile files, and one collection for each fault; all of them: scripts/hostile_corpus.py.
hostile: setup
	$(RUN) scripts/hostile_corpus.py --quick
	$(RUN) scripts/hostile_corpus.py --audit --quick

bench: setup
	$(RUN) -m benchmarks

# What papers and we claim of the methods, over seeds: every grid of winnow/bench/relations, recorded.
relations: setup
	$(RUN) -m benchmarks.relations

# The two whose records are oldest; their new records stay out of the repository.
relations-oldest: setup
	folder=$$(mktemp -d) && $(RUN) -m benchmarks.relations --oldest 2 --out $$folder

constraints: setup
	(echo "# Versions that are tested together; made by the resolver. Refresh: make constraints"; \
	 $(BIN)/uv pip freeze --python $(BIN)/python --exclude-editable | grep -v '^pip==' | sort -f) > constraints.txt

clean:
	rm -rf $(VENV) build dist *.egg-info
