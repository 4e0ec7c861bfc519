# `make demo` and `make test` are all a newcomer needs. Each step runs only when what it reads has changed.
SHELL := /bin/bash
export TIMEFORMAT := %lU of CPU time (and %lS in the system), %lR in all
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
PIP = $(RUN) -m pip install --quiet --disable-pip-version-check $(PIP_OPTIONS)
INSTALLED := $(VENV)/.installed
VIDEO := $(VENV)/.video
EXPORT := $(VENV)/.export
COMPILED := $(VENV)/.compiled
SOURCES := $(filter-out tests/% docs/%,$(wildcard *.py */*.py */*/*.py))

DEMO := demo
DEMO_RUN := $(DEMO)/output/multi-task-setting/V1___GTCC_demo.progress
DEMO_SPLITS := $(DEMO)/dset_jsons/demo.splits.json
RECOMMENDED := configs/progress_recommended.json
DEMO_AGAIN := --splits $(DEMO_SPLITS) --overwrite
# One thread: the demo computes little, and on a busy machine more would wait for each other.
DEMO_PATHS := OMP_NUM_THREADS=1 DATASET_PATH=$(DEMO)/data JSON_DPATH=$(DEMO)/dset_jsons OUTPUT_PATH=$(DEMO)/output

VIDEO_DEMO := $(DEMO)/video
VIDEO_PATHS := OMP_NUM_THREADS=1 DATASET_PATH=$(VIDEO_DEMO)/data JSON_DPATH=$(VIDEO_DEMO)/dset_jsons \
    OUTPUT_PATH=$(VIDEO_DEMO)/output
VIDEO_RUN := $(VIDEO_DEMO)/output/multi-task-setting/V1___GTCC_toy_car
VIDEO_UNSEEN := p09_1

.PHONY: demo demo-video test lint packages video export-packages docs docs-check bench bench-training bench-gpu study
demo: $(DEMO)/.evaluated
	@cat $(DEMO)/.evaluated
	@echo
	@echo "loss curves:            $(DEMO_RUN)/dual_loss_comparison.png"
	@echo "predicted vs. true:     $(DEMO_RUN)/EVAL/best_model_combined/progress_*.png"
	@echo "error by length:        $(DEMO_RUN)/EVAL/best_model_combined/mae_by_length.png"
	@echo "losses per epoch:       $(DEMO_RUN)/losses.csv"
	@echo
	@echo "to train and evaluate on it: export DATASET_PATH=$(DEMO)/data JSON_DPATH=$(DEMO)/dset_jsons OUTPUT_PATH=$(DEMO)/output"

# From videos to a video: drawn ones, because they are small and nobody owns them.
demo-video: $(VIDEO_DEMO)/.shown
	@cat $(VIDEO_DEMO)/.evaluated
	@echo
	@echo "videos:                            $(VIDEO_DEMO)/videos/*.mp4"
	@echo "a person unseen in training:       $(VIDEO_DEMO)/$(VIDEO_UNSEEN).mp4, .gif, .srt"
	@echo "the same as rows and as a picture: $(VIDEO_DEMO)/predictions/$(VIDEO_UNSEEN).csv, .png"
	@echo "predicted vs. true:                $(VIDEO_RUN)/EVAL/best_model_combined/progress_toy_car.png"

# One thread per process: the tests compute little, and more threads would wait for each other. The tests start many
# processes, which would compile every module again if the environment kept Python from storing the result. The tests of
# a file run in one process (see tests/conftest.py), so that what they share is made once.
test: $(INSTALLED) $(COMPILED)
	time OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(RUN) -m pytest -n auto --maxprocesses 8 --no-loadscope-reorder

lint: $(INSTALLED)  # ruff checks everything, mypy the types of the public API
	$(RUN) -m ruff check .
	$(RUN) -m mypy

docs: $(INSTALLED)  # the page that is written from the defaults
	$(RUN) -m configs.describe -o docs/configuration.md

docs-check: $(EXPORT)  # runs every command of the documents
	OMP_NUM_THREADS=1 $(RUN) docs/check_commands.py

bench: $(INSTALLED)
	$(RUN) -m benchmarks.speed.losses
	$(RUN) -m benchmarks.speed.libraries
	$(RUN) -m benchmarks.speed.training_step
	$(RUN) -m benchmarks.speed.training_step --length 2000 --repeats 3
	$(RUN) -m benchmarks.studies.mixture_fit
	$(RUN) -m benchmarks.speed.scale
	$(RUN) -m benchmarks.speed.scale --recordings 20000 200000 --frames 600 --width 256 --workers 0 --lengths
	$(RUN) -m benchmarks.speed.scale --recordings --lengths --frames 40 --width 256 --evaluate 1000 4000 16000
	$(RUN) -m benchmarks.speed.hours --people 4 10

bench-training: $(INSTALLED)
	$(RUN) -m benchmarks.reliability.stress --threads 1
	$(RUN) -m benchmarks.studies.alignment_quality --threads 1

bench-gpu: $(INSTALLED)  # everything that computes on a device; without a GPU it says so in one line
	@$(RUN) -m benchmarks.speed.gpu

study: $(INSTALLED)
	$(RUN) -m benchmarks.studies.progress_study --study heads
	$(RUN) -m benchmarks.studies.progress_study --study alignment

$(INSTALLED): requirements.txt
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(PIP) -r requirements.txt
	touch $@

# The filter, before several tests would compile it at the same time.
$(COMPILED): $(INSTALLED) $(wildcard models/heads/filter/compiled/*.py)
	$(RUN) -m models.heads.filter.compiled
	touch $@

packages:  # all of them, by one call of pip
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(PIP) -r requirements.txt -r requirements-video.txt -r requirements-export.txt
	touch $(INSTALLED) $(VIDEO) $(EXPORT)

video: $(VIDEO)  # packages that read videos; everything else runs without them

$(VIDEO): $(INSTALLED) requirements-video.txt
	$(PIP) -r requirements-video.txt
	touch $@

export-packages: $(EXPORT)  # packages that tools.export needs; everything else runs without them

$(EXPORT): $(INSTALLED) requirements-export.txt
	$(PIP) -r requirements-export.txt
	touch $@

$(DEMO)/.written: $(INSTALLED) tools/demo.py
	$(RUN) -m tools.demo $(DEMO) --name demo --seed 0 --overwrite
	touch $@

# A run that holds an epoch and was never finished goes on.
$(DEMO)/.trained: $(DEMO)/.written $(SOURCES) $(RECOMMENDED)
	time $(DEMO_PATHS) $(RUN) multitask_train.py 1 --dataset demo --config $(RECOMMENDED) -m progress \
	    $(if $(wildcard $@),$(DEMO_AGAIN),$(if $(wildcard $(DEMO_RUN)/ckpt/last.pt),--resume,$(DEMO_AGAIN)))
	touch $@

# The table is kept, so that a second `make demo` shows it without computing it again.
$(DEMO)/.evaluated: $(DEMO)/.trained
	time $(DEMO_PATHS) $(RUN) eval.py -f $(DEMO_RUN) --checkpoint_type both > $@.tmp
	mv $@.tmp $@

$(VIDEO_DEMO)/.drawn: $(VIDEO) tools/demo_video.py tools/demo_scene.py tools/demo_pen.py
	$(RUN) -m tools.demo_video $(VIDEO_DEMO) --overwrite
	rm -rf $(VIDEO_DEMO)/data  # features of earlier videos
	touch $@

# Features of complete videos are kept, so an interrupted extraction goes on.
$(VIDEO_DEMO)/.extracted: $(VIDEO_DEMO)/.drawn
	$(VIDEO_PATHS) $(RUN) -m tools.extract $(VIDEO_DEMO)/videos toy_car --workers 0
	$(VIDEO_PATHS) $(RUN) -m tools.import_segments toy_car $(VIDEO_DEMO)/steps.csv --overwrite
	touch $@

$(VIDEO_DEMO)/.trained: $(VIDEO_DEMO)/.extracted $(SOURCES) $(RECOMMENDED)
	$(VIDEO_PATHS) $(RUN) multitask_train.py 1 --dataset toy_car --splits $(VIDEO_DEMO)/splits.json \
	    --config $(RECOMMENDED) --overwrite
	touch $@

$(VIDEO_DEMO)/.evaluated: $(VIDEO_DEMO)/.trained
	$(VIDEO_PATHS) $(RUN) eval.py -f $(VIDEO_RUN) > $@.tmp
	mv $@.tmp $@

$(VIDEO_DEMO)/.shown: $(VIDEO_DEMO)/.evaluated
	$(VIDEO_PATHS) $(RUN) predict.py -f $(VIDEO_RUN) --video $(VIDEO_DEMO)/videos/$(VIDEO_UNSEEN).mp4 \
	    --overlay $(VIDEO_DEMO)/$(VIDEO_UNSEEN).mp4 --srt $(VIDEO_DEMO)/$(VIDEO_UNSEEN).srt \
	    -o $(VIDEO_DEMO)/predictions --overwrite
	$(RUN) -m tools.make_gif $(VIDEO_DEMO)/$(VIDEO_UNSEEN).mp4 $(VIDEO_DEMO)/$(VIDEO_UNSEEN).gif
	touch $@
