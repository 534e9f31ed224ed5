# Everything runs in .venv and .host, which `setup` makes and brings up to date. With another Python than python3:
#     make demo PYTHON=python3.12
PYTHON ?= python3
RUN := .venv/bin/python

.PHONY: demo serve test fuzz load lint setup clean

# Retouch Grace Hopper after an exemplar made on Eileen Collins, in the real ComfyUI; writes demo/.
demo: setup
	@$(RUN) tests/environment/demo.py

# Open the real ComfyUI page with the workflow ready, until Ctrl-C.
serve: setup
	@$(RUN) tests/environment/serve.py

# One file: make test ARGS=tests/core/geometry/test_displacement.py
# One thread: the models in the tests are tiny, and threads that wait for each other cost more than they bring.
test: setup
	@OMP_NUM_THREADS=1 $(RUN) -m pytest -q $(ARGS)

# Ten thousand damaged files. A part: make fuzz ARGS="--subject weights --count 500"
fuzz: setup
	@OMP_NUM_THREADS=1 $(RUN) tests/fuzz/fuzz.py $(ARGS)
	@OMP_NUM_THREADS=1 $(RUN) tests/fuzz/workflows.py

# Two hundred prompts from eight clients in the real ComfyUI.
load: setup
	@OMP_NUM_THREADS=1 $(RUN) tests/load/load.py $(ARGS)

lint: setup
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .

setup:
	@$(PYTHON) tests/environment/install.py

clean:
	rm -rf .venv .host demo .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
