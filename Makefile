# Each target sets up .venv by itself when needed.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check
.DEFAULT_GOAL := help
.PHONY: help demo test sweep storm starts interruptions endurance fuzz soak lint bench bench-short chip chip-full chip-record sizes \
    generate clean

help:            ## list the targets
	@grep -hE '^[a-zA-Z%-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.venv/.run: pyproject.toml
	$(PYTHON) -m venv .venv
	$(PIP) -e .
	@touch $@

.venv/.dev: pyproject.toml
	$(PYTHON) -m venv .venv
	$(PIP) -e '.[dev]'
	@touch $@ .venv/.run

.venv/.bench: pyproject.toml
	$(PYTHON) -m venv .venv
	$(PIP) -e '.[dev,bench]'
	@touch $@ .venv/.dev .venv/.run

# The stubs describe MicroPython's standard library in place of CPython's, so they stay out of site-packages.
STUBS := rp2-rpi-pico esp32
.venv/.stubs: Makefile .venv/.dev
	for name in $(STUBS); do \
	    rm -rf .venv/stubs-$$name && $(PIP) --target .venv/stubs-$$name "micropython-$$name-stubs>=1.24" || exit 1; \
	done
	@touch $@

demo: .venv/.run ## run the node on a virtual board: deploy, transactions, a hardware fault, a summary
	$(BIN)/sentill demo

# Computing first, then what mostly waits for virtual boards, in the order of names: the longest are not among the last.
test: .venv/.dev ## run every test
	$(BIN)/pytest -q -n 2 --dist loadfile --ignore=tests/e2e
	$(BIN)/pytest -q -n 4 --dist loadfile --no-loadscope-reorder tests/e2e

sweep: .venv/.dev ## cut the power at every flash operation of every scenario (minutes; for the night)
	SENTILL_SWEEP=all $(BIN)/pytest -q tests/power

storm: .venv/.dev ## deploy through 576 seeded faults: cuts, pulled cables, noise, killed hosts, wrong keys (half an hour)
	PYTHONPATH=. $(BIN)/python tests/e2e/storm.py

interruptions: .venv/.dev ## interrupt 300 commands at locked boards: cables, killed and stopped hosts, slow starts (15 minutes)
	PYTHONPATH=. $(BIN)/python -m tests.e2e.interruptions

starts: .venv/.dev ## start locked virtual boards 500 times under floods and single keys, on both kinds of USB
	PYTHONPATH=. $(BIN)/python tests/e2e/starts.py

endurance: .venv/.dev ## 20,000 transactions on a virtual board with the flash of a Pico W, its journal pulled every 3,000
	$(BIN)/python -m tests.e2e.endurance

fuzz: .venv/.dev ## 100,000 damaged, forged and right frames on both lines of a locked node (minutes)
	$(BIN)/python -m tests.e2e.fuzz $(OPTIONS)

soak: .venv/.dev ## a locked node at work for an hour; build/soak.png shows its heap and its latency
	$(BIN)/python -m tests.e2e.soak $(OPTIONS)

lint: .venv/.stubs ## ruff, mypy, import layers, generated files
	$(BIN)/ruff check .
	$(BIN)/mypy
	for name in $(STUBS); do \
	    echo "mypy device/ against micropython-$$name-stubs" && cd device && \
	    MYPYPATH=../.venv/stubs-$$name ../$(BIN)/mypy --config-file ../tools/mypy-device.ini \
	        --custom-typeshed-dir ../.venv/stubs-$$name --cache-dir ../.mypy_cache/$$name . && cd .. || exit 1; \
	done
	$(BIN)/pytest -q tests/test_layers.py tests/test_house.py

bench: .venv/.bench ## run every benchmark of tools/bench
	$(BIN)/python tools/bench/_all.py

bench-short: .venv/.bench ## the same in seconds, on generated input: whether they all work
	$(BIN)/python tools/bench/_all.py --short

bench-%: .venv/.bench ## run one benchmark: tools/bench/NAME.py; OPTIONS="--only boards" runs a part of deploy's
	$(BIN)/python tools/bench/$*.py $(OPTIONS)

# Nothing is fetched: FIRMWARE=RPI_PICO.uf2 is an image of yours, of stock MicroPython for the Raspberry Pi Pico.
chip: .venv/.dev ## measure on an emulated Pico: make chip FIRMWARE=RPI_PICO.uf2; OPTIONS="--only boot" for a part
	$(BIN)/python -m tests.chip.measure --firmware "$(FIRMWARE)" $(if $(EMLEARN),--emlearn $(EMLEARN)) $(OPTIONS)

chip-full: .venv/.dev ## the same with 1,000 requests a regime and 200 power cuts
	$(MAKE) chip OPTIONS="--requests 1000 --cuts 200 $(OPTIONS)"

chip-record: .venv/.dev ## the same as chip, and make its figures those that the docs quote
	$(MAKE) chip OPTIONS="--record $(OPTIONS)"; missed=$$?; $(BIN)/python tools/power_budget.py --write && exit $$missed

sizes: .venv/.dev ## bytes of source, of bytecode and of RAM per device module, against the baseline
	$(BIN)/python tools/size_report.py

generate: .venv/.dev ## write the generated files anew
	$(BIN)/python tools/make_package_json.py

clean:           ## remove what the other targets made
	rm -rf .venv build dist .pytest_cache .hypothesis .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
