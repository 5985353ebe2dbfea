# All targets first create .venv with the exact versions of requirements.lock, if needed.
PYTHON ?= python3
export PATH := $(CURDIR)/.venv/bin:$(PATH)
READY := .venv/ready
# Trust the system's certificates: companies often have their own.
export UV_SYSTEM_CERTS := 1

.PHONY: help setup run test test-fast lint bench load site docs dag dist lock clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 12

setup: $(READY)  ## create .venv from requirements.lock

run: $(READY)  ## run the whole study in params.yaml
	@snakemake --quiet rules
	@echo "The report is in $(CURDIR)/results/report.html"

test: $(READY)  ## run all tests
	@pytest --numprocesses auto --dist worksteal

test-fast: $(READY)  ## run the quick tests
	@pytest --numprocesses auto --dist worksteal -m "not slow"

lint: $(READY)  ## check formatting, types, both engines' files and workflows on GitHub
	@ruff format --check .
	@ruff check .
	@mypy
	@lint-imports
	@shellcheck .ci/run envs/*.sh envs/*/*.sh workflow/profiles/*/*.sh
	@hadolint envs/Dockerfile.*
	@zizmor --quiet --offline .github
	@check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	@check-jsonschema --quiet --builtin-schema vendor.github-actions .github/actions/*/action.yml
	@check-jsonschema --quiet --builtin-schema vendor.dependabot .github/dependabot.yml
	@check-jsonschema --quiet --builtin-schema vendor.cloudbuild envs/google_cloud/cloudbuild.yaml
	@snakefmt --check Snakefile workflow
	@snakemake --lint

bench: $(READY)  ## measure start-up, planning and the default study
	@python benchmarks/pipeline.py

load: $(READY)  ## measure the service by number of users, in a finished study
	@python benchmarks/load.py

site: $(READY)  ## build the documentation site into site/
	@sphinx-build --quiet --fail-on-warning --keep-going --jobs auto --conf-dir docs/tools . site
	@echo "The site is in $(CURDIR)/site/index.html"

docs: site  ## build the documentation site and show it on http://127.0.0.1:8001/
	@python -m http.server --bind 127.0.0.1 --directory site 8001

dag: $(READY)  ## redraw the diagrams of stages and packages in the docs
	@python docs/tools/dag.py

dist: $(READY)  ## build the wheel and the source distribution into dist/
	@uv build --quiet

lock: $(READY)  ## compile requirements.lock from pyproject.toml
	@uv pip compile --quiet --universal --python-version 3.11 --extra dev \
	  --no-header --output-file requirements.lock pyproject.toml

clean:  ## remove the environment, not the results
	@rm -rf .venv

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is $$($(PYTHON) --version); carbench needs Python 3.11 or newer. Fix: make PYTHON=python3.12"; exit 1; }
	@test -x .venv/bin/python || $(PYTHON) -m venv .venv
	@echo "Installing the versions of requirements.lock into .venv ..."
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check \
	  "$$(sed -n 's/^\(uv==[^ ;]*\).*/\1/p' requirements.lock)"
	@# Compile once here: where Python cannot write its cache, every job would compile torch and timm.
	@uv pip install --quiet --compile-bytecode --python .venv/bin/python --requirement requirements.lock
	@uv pip install --quiet --python .venv/bin/python --no-deps --editable .
	@touch $(READY)
