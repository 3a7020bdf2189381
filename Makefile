# `make sweep` and `make test` need python3, make and a package index; the rest they fetch once.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready

.PHONY: sweep test docs results test-busy bench faults gpu format clean

sweep: $(READY)
	$(BIN)/bnrecal sweep
	$(BIN)/bnrecal report

test: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest -n 2 --dist worksteal

# docs/ as a site, in build/docs/index.html; a warning is an error
docs: $(READY)
	$(BIN)/sphinx-build -E -W --keep-going -q -b html docs build/docs

# what README, docs/ and results/ show of the studies that are kept, from their rows; nothing is measured
results: $(READY)
	$(BIN)/python experiments/results.py

# the tests three times beside processes that keep every processor busy; a part of them, once:
# make test-busy BUSY="1 tests/host"
test-busy: $(READY)
	experiments/bench/busy_tests.sh $(BUSY)

# timings, as ratios measured side by side; about twenty minutes on two cores
bench: $(READY)
	$(BIN)/pip install --disable-pip-version-check --quiet --editable '.[bench]'
	$(BIN)/python -W ignore experiments/bench/recalibrate.py
	$(BIN)/python experiments/bench/optimisers.py
	$(BIN)/python -W ignore experiments/bench/grid.py
	$(BIN)/python experiments/bench/memory.py
	$(BIN)/python experiments/bench/norms.py
	$(BIN)/python experiments/bench/search.py 300 30

# kills, full disks, lost nodes, hostile files, in number; about half an hour on two cores
faults: $(READY)
	$(BIN)/python -W ignore experiments/bench/faults.py

# what is to be known of a GPU; on the processor, in small, where there is none; never run on a GPU so far
gpu: $(READY)
	$(BIN)/python experiments/gpu/run.py

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# torch and torchvision are large: the first time takes minutes
$(READY): pyproject.toml
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	$(BIN)/pip install --disable-pip-version-check --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
