# Each target sets up .venv by itself when needed.
PYTHON ?= python3
BIN := .venv/bin
.DEFAULT_GOAL := help
.PHONY: help demo test lint bench clean

help:            ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.venv/.run: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -e .
	@touch $@

.venv/.dev: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@ .venv/.run

demo: .venv/.run ## run the node on a virtual board: deploy, transactions, a hardware fault, a summary
	$(BIN)/sentill demo

test: .venv/.dev ## run every test
	$(BIN)/pytest -q

lint: .venv/.dev ## ruff, mypy, import layers, generated files
	$(BIN)/ruff check .

clean:           ## remove what the other targets made
	rm -rf .venv build dist .pytest_cache .hypothesis .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
