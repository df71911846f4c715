# Everything runs from .venv, which each target makes when it is needed.
# The newest Python there is: JAX's releases since 0.11, which compute faster, need 3.12.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
    $$p -c "import sys, ensurepip, venv; assert sys.version_info >= (3, 11)" 2>&- && echo $$p && break; done)
BIN := .venv/bin

.PHONY: demo test test-slow test-slurm coverage bench soak lint types check clean

demo: .venv/runtime # trains on the embedded faces for a few minutes on a CPU
	$(BIN)/python main.py --config=configs/demo.py --workdir=runs/demo
	@echo "Samples of every stage: runs/demo/samples. Curves: pip install tensorboard; tensorboard --logdir=runs"

test: .venv/dev # the suite but for its longest tests
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-slow: .venv/dev # those: whole runs that are killed, stopped or of several processes
	XLA_FLAGS= $(BIN)/python -m pytest -n 2 -m slow

test-slurm: .venv/dev # the launchers on a real SLURM on this machine, as root; five minutes
	tests/slurm/cluster.sh start /tmp/began-slurm
	SLURM_CONF=/tmp/began-slurm/slurm.conf $(BIN)/python -m pytest -s tests/slurm; \
	    status=$$?; tests/slurm/cluster.sh stop /tmp/began-slurm; exit $$status

coverage: .venv/dev # the lines of began_jax/ that those of `make test` execute
	$(BIN)/python -m pytest -n 2 --dist loadfile --cov=began_jax --cov-report=term-missing:skip-covered --cov-fail-under=90

bench: .venv/bench # beside PyTorch, on this machine: BENCH="--resolutions 32 64 128"
	$(BIN)/python -m benchmarks.bench $(BENCH)

soak: .venv/dev # a demo run that is killed, stopped, damaged and starved for hours: SOAK="--hours=1"
	$(BIN)/python -m tests.faults.soak --config=configs/demo.py --longest=300 --hours=3 --out=runs/soak.json $(SOAK)

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/dev
	$(BIN)/mypy

check: lint types test test-slow # all that a change has to pass

clean:
	rm -rf .venv .cache

.venv/runtime: requirements.txt
	$(if $(wildcard $(BIN)/python),,$(or $(PYTHON),$(error Python 3.11 or newer with venv is needed; on Debian: apt install python3-venv)) -m venv .venv)
	$(BIN)/python -m pip install --quiet -r requirements.txt
	touch $@

.venv/dev: requirements-dev.txt requirements-launch.txt .venv/runtime
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	touch $@

.venv/bench: requirements-bench.txt .venv/runtime
	$(BIN)/python -m pip install --quiet -r requirements-bench.txt $(if $(shell command -v nvidia-smi),-r requirements-cuda.txt)
	touch $@
