# Two commands on a fresh machine: `make demo` and `make test`. Both install what is missing by themselves.

.PHONY: help demo chaos test reliability mutants soak fuzz bench peers build install clean

help:            ## this list
	@grep -hE '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

demo:            ## the delivery day on one node, compared with the simulator's truth (DEMO="--seed 7 --json" for options)
	@scripts/run.sh cargo run --locked --release --bin sunseo -- demo $(DEMO)

chaos:           ## the same day while the node is killed ten times
	@scripts/run.sh cargo run --locked --release --bin sunseo -- demo --chaos kills=10 $(DEMO)

test:            ## format, lints, documentation, unit, property, integration and crash tests
	@scripts/run.sh scripts/test.sh

reliability:     ## seeded runs of a node that is killed and fooled, in process and as the binary, every history checked (SEEDS=n FROM=n PROCESSES=n)
	@scripts/run.sh scripts/reliability.sh

mutants:         ## breaks the product in one way at a time and shows that the history checker sees it (ONLY="name name" SEEDS=n)
	@scripts/run.sh scripts/mutants.sh

soak:            ## a simulated day of one node, and what grew: memory, descriptors, disk, tables (HOURS=n SEED=n)
	@scripts/run.sh cargo run --locked --package sunseo-reliability -- soak --hours $(or $(HOURS),24) --seed $(or $(SEED),0)

fuzz:            ## changed examples through every decoder (TARGET=name SECONDS=60 SEED=n); CORPUS=1 writes the examples
	@scripts/run.sh cargo run --locked --package sunseo-fuzz -- --target "$(TARGET)" --seconds $(or $(SECONDS),60) \
		$(if $(SEED),--seed $(SEED)) $(if $(CORPUS),--corpus)

bench:           ## the README's figures, into benches/results/
	@scripts/run.sh benches/run.sh

peers:           ## Sunseo beside Kafka, NATS and Redis, into benches/results/ (ROUNDS=5; QUICK=1 tries the tools; PARTS="produce e2e")
	@scripts/run.sh benches/peers/run.sh

build:           ## the release binary; prints where it is
	@scripts/run.sh cargo build --locked --release --bin sunseo
	@bash -c 'source scripts/env.sh && echo "$$CARGO_TARGET_DIR/release/sunseo"'

install: build   ## puts `sunseo` into ~/.cargo/bin
	@bash -c 'source scripts/env.sh && install -Dm755 "$$CARGO_TARGET_DIR/release/sunseo" "$${CARGO_HOME:-$$HOME/.cargo}/bin/sunseo"'

clean:           ## forget the compiled code of this project; RocksDB and Python stay
	@bash -c 'source scripts/env.sh && rm -rf "$$CARGO_TARGET_DIR"'
