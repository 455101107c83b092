# Everything runs from an empty checkout: each target first makes .venv from pyproject.toml and constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
TORCH := $(shell grep '^torch==' constraints.txt)

.PHONY: setup demo test lint bench bench-serving paper docs audit sbom clean

setup: .venv/ready

# torch first and by exact version: a looser request may choose a build with gigabytes of CUDA packages.
.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt $(TORCH)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: .venv/ready  ## the main job, end to end, on a made-up shop
	rm -rf demo
	$(BIN)/valuerec demo --out demo

test: .venv/ready  ## all tests, on up to four cores
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal

lint: .venv/ready  ## style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/ready  ## speed and memory; an hour or two on an otherwise idle machine
	$(BIN)/python benchmarks/step.py --all
	$(BIN)/python benchmarks/batches.py
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/ranking.py
	$(BIN)/python benchmarks/recommend.py
	$(BIN)/python benchmarks/plan.py
	$(BIN)/python benchmarks/prepare.py
	$(BIN)/python benchmarks/checkpoints.py

# at full counts, about two hours on an otherwise idle machine; a file that is there is kept: delete it to measure anew
bench-serving: $(patsubst %,results/serving/%.json,load load-value overload reloads drains fuzz schema)  ## the service: speed and faults

results/serving/%.json: | .venv/ready
	mkdir -p $(@D)
	$(BIN)/python benchmarks/serving_$(firstword $(subst -, ,$*)).py $(OPTIONS_$*) --json > $@.part
	mv $@.part $@
OPTIONS_load := --exact 10000
OPTIONS_load-value := --rank-by value --items 10000 100000 1000000 --rate 200 20 1 --exact 200

# About a day and a half on two cores; stop it any time and go on with the same command. Runs use the sources as they are
# when they begin: work in a clone of its own while they go on, and copy what is finished from there.
SHARED ?= ../shared/data
SEEDS ?= 3
PAPER := results/yoochoose-1pct
PROXY := results/retailrocket-buyers-proxy
paper: data/yc data/rr  ## the paper's table and figures on the real logs of $(SHARED)
	$(BIN)/valuerec reproduce figure1 --out $(PAPER)
	for rows in "sasrec,gru4rec --controls" nextitnet caser; do \
		$(BIN)/valuerec reproduce table1 --data data/yc --out $(PAPER) --seeds $(SEEDS) --rows $$rows || exit; done
	$(BIN)/valuerec reproduce figure2 --data data/yc --out $(PAPER) --seeds $(SEEDS)
	$(BIN)/valuerec reproduce table1 --data data/yc --out $(PAPER) --seeds $(SEEDS) --protocol released
	$(BIN)/valuerec reproduce figure3 --data data/yc --out $(PAPER) --seeds $(SEEDS)
	$(BIN)/valuerec reproduce table1 --data data/rr --out $(PROXY) --seeds $(SEEDS) \
		--rows sasrec,nextitnet,sasrec-reward-weighted,sasrec-return-weighted,sasrec-immediate,repeat-last,popularity,sknn,vsknn
	$(BIN)/python benchmarks/render.py

data/yc: | .venv/ready
	$(BIN)/valuerec prepare $(SHARED)/yoochoose-1pct/yoochoose-clicks.dat.xz $(SHARED)/yoochoose-1pct/yoochoose-buys.dat.xz \
		--format yoochoose --out $@

# no timestamps, and as in the paper a purchase is an add-to-cart
data/rr: | .venv/ready
	$(BIN)/valuerec prepare $(SHARED)/retailrocket-buyers/retailrocket_buyers_sequences.csv.xz --format events --out $@ \
		--columns session=user,item=item,time=pos,event=event --time-unit position \
		--events view=click,addtocart=purchase,transaction=ignore

docs: .venv/ready  ## RESULTS.md from results/
	$(BIN)/python benchmarks/render.py

audit:  ## known vulnerabilities of the pinned versions; says NOT RUN where there is no network
	$(PYTHON) tools/audit.py vulnerabilities

sbom: .venv/ready  ## sbom.json, the bill of materials of the environment (CycloneDX)
	$(PYTHON) tools/audit.py sbom

clean:
	rm -rf .audit sbom.json .venv demo build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis src/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
