# Two commands are the whole set-up: make demo, make test.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo test test-long test-cluster images lint bench panels queries packages kustomize binaries

# The servers that are started privately, what builds, and libfaketime, by which tests give programs a wrong clock.
PACKAGES := postgresql pgbouncer redis-server nats-server prometheus prometheus-pushgateway prometheus-alertmanager build-essential util-linux openssl libfaketime
# What else some of them need: checkov's own Python, and what documents tell operators to type.
lint: PACKAGES += python3-venv
test-cluster: PACKAGES += curl
export SQLX_OFFLINE := true
# How test-cluster builds images: options of tools/images, such as --engine none.
IMAGES ?=

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: packages binaries ## The main job at work on private real servers (KEEP=1 leaves them up)
	@cargo run --quiet -p demo

test: packages kustomize binaries ## All tests, against private real servers
	cargo test --workspace --no-fail-fast -- --test-threads=8

test-long: packages kustomize binaries ## The same, with the kill and race tests at full length
	ROLLCALL_LONG=1 cargo test --workspace --no-fail-fast -- --test-threads=8

test-cluster: packages binaries ## The images and manifests on the cluster of KUBECONFIG; ROLLCALL_LOAD_IMAGE loads an archive into it
	tools/images $(IMAGES) character-verifier migrate outbox-drain
	cargo test --locked -p cluster -- --ignored --test-threads=6

images: ## One image per binary as archives in target/images, by docker, buildah, or neither
	tools/images

lint: packages ## Formatting, clippy, licences and advisories, checked queries, scripts, manifests
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	tools/deny
	tools/queries --check
	tools/lint-scripts
	tools/lint-manifests

bench: packages ## Rates beside the ceilings measured in the same run (release build)
	cargo build --release --locked -p character-verifier -p migrate -p outbox-drain -p esi-simulator -p bench
	cargo run --release --quiet -p bench

panels: packages binaries ## Draw docs/panels anew, from real runs and a real Prometheus
	ROLLCALL_PANELS=1 cargo test --locked -p operations every_panel_has_data

queries: packages ## Renew .sqlx, the data by which queries are checked without a database
	tools/queries

packages:
	@tools/packages $(PACKAGES)

kustomize:
	@tools/kustomize >/dev/null

binaries:
	cargo build --workspace --bins --locked
