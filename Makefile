# Two commands for newcomers: `make demo` and `make test`. Each step runs only when what it reads has changed.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed

.PHONY: test lint
test: $(INSTALLED)
	$(RUN) -m pytest

lint: $(INSTALLED)
	$(RUN) -m ruff check .

$(INSTALLED): requirements.txt
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@
