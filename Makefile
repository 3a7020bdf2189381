# `make sweep` and `make test` need python3, make and a package index; the rest they fetch once.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready

.PHONY: sweep test format clean

sweep: $(READY)
	$(BIN)/bnrecal sweep
	$(BIN)/bnrecal report

test: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest -n 2

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
