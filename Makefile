# `make demo`: from a fresh clone to results/demo/base/best_model.pt and report.html. `make test`: the tests.
# Nothing but Python >= 3.11, make and a package index is needed.
PYTHON ?= python3
CORES ?= all
INSTALLED = .venv/installed

.PHONY: demo test slurm-test conda-test faults lint clean-venv
demo: $(INSTALLED)
	.venv/bin/snakemake --cores $(CORES)

test: $(INSTALLED)
	.venv/bin/pytest -n 2 --dist loadgroup --ignore tests/slurm

# The SLURM profile on a cluster in a box: as root, with Debian's packages, which are installed; else its tests are skipped.
slurm-test: $(INSTALLED)
	.venv/bin/pip install --quiet --constraint constraints.txt --editable '.[slurm]'
	.venv/bin/python -m tests.slurm.box install
	.venv/bin/pytest tests/slurm

# The demo with --sdm conda, by a real conda with a local channel: docs/conda.md.
conda-test: $(INSTALLED)
	.venv/bin/pytest tests/conda/run_demo.py

# The table of docs/reliability.md: 30 kills, full disks, damage, networks; 1,000 cases of each kind of bad input.
faults: $(INSTALLED)
	FUZZ_CASES=1000 .venv/bin/pytest tests/faults -k fuzz
	.venv/bin/python -m tests.faults

lint: $(INSTALLED)
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/snakefmt --check Snakefile workflow
	.venv/bin/snakemake --lint

$(INSTALLED): pyproject.toml constraints.txt
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11) and "censusformer needs Python 3.11 or later: make PYTHON=python3.11")'
	.venv/bin/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	.venv/bin/pip install --quiet --no-deps --constraint constraints.txt --target .venv/scgpt --upgrade scgpt # tests: its model.py
	touch $@

clean-venv:
	rm -rf .venv
