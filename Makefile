# make run    set up, start the service, run the MNIST quickstart through REST, keep serving
# make test   set up, pass all tests
# make slow   the tests that train for minutes: the exported scripts against the service's own figures
# make contract  ask the API, as a reader and as an operator, all that its OpenAPI document allows and forbids; EXAMPLES=100 draws more (3)
# make lint   style, types, floors
# make drills kill, stop, fill, lock and turn back the clock of running services, and count what that costs; 15 minutes
PYTHON ?= python3
BIN := .venv/bin
# Many tests wait for processes that they have started.
PROCESSES ?= 3

.PHONY: run test slow contract lint drills setup clean

run: setup
	$(BIN)/tuner serve --quickstart

test: .venv/.tests
	$(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist loadfile --no-loadscope-reorder

slow: .venv/.slow
	$(BIN)/python -m pytest -m slow

contract: .venv/.tests
	$(BIN)/python -m pytest -m contract --numprocesses 2

lint: .venv/.tests
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

drills: .venv/.tests
	$(BIN)/python -m drills $(DRILLS)

setup: .venv/.service

.venv/.service: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/.tests: .venv/.service
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

.venv/.slow: .venv/.tests
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[slow]'
	touch $@

clean:
	rm -rf .venv build *.egg-info
