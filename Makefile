# make help lists what there is to do.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

BIN := $(CURDIR)/.bin
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)

# Tools, pinned. They are built outside the workspace so that their
# dependencies never meet ours.
BUF_VERSION := v1.71.0
GOLANGCI_VERSION := v2.13.2
GOTESTSUM_VERSION := v1.13.0
BENCHSTAT_VERSION := v0.0.0-20250813145418-2f7363a06fe1
# Not a tool: measured beside brokers.
NATS_VERSION := v2.15.2

# SKIP=forbid makes make test fail when a test was skipped.
SKIP ?= allow
TEST_FLAGS ?= -race -timeout 15m

##@ Use
.PHONY: run
run: build ## Build and start everything in one process; prints where to look
	exec bin/comet dev $(ARGS)

.PHONY: build
build: ## Build bin/comet
	CGO_ENABLED=0 GOWORK=off go build -trimpath -ldflags '$(LDFLAGS)' -o bin/comet ./cmd/comet

##@ Test
.PHONY: test
test: test-deps test-tools ## Install what tests need and run all but test-k8s and bench
	SKIP=$(SKIP) BIN=$(BIN) TEST_FLAGS='$(TEST_FLAGS)' test/run.sh

.PHONY: test-unit
test-unit: $(BIN)/gotestsum ## Run the root module's tests only (needs Go alone)
	$(BIN)/gotestsum --format pkgname-and-test-fails -- $(TEST_FLAGS) ./...

.PHONY: test-deps
test-deps: ## Install Debian's packages for the tests and start Docker, as root on Debian; npm packages by lockfile
	test/deps.sh

.PHONY: test-k8s
test-k8s: ## Deploy to the cluster KUBECONFIG names and test it (load the images of make image first)
	cd test && go test -tags k8s -v -count=1 -timeout 30m ./k8s/...

.PHONY: conformance
conformance: test-deps ## Every scenario over every transport and path (make test runs a part of them)
	cd test && CONFORMANCE=full go test -v -count=1 -timeout 60m ./conformance/...

.PHONY: soak
soak: test-deps ## Clients of all transports come and go for SOAK (10m)
	cd test && SOAK=$(or $(SOAK),10m) go test -run TestChurn -v -count=1 -timeout 60m .

.PHONY: drill
drill: test-deps ## Break containers under load: 20 kills and everything else; prints a table
	cd test && DRILLS=full go test -run TestDrills -v -count=1 -timeout 60m ./drill

.PHONY: storm
storm: ## Random faults of all kinds in virtual time: STORMS (100) histories from SEED (1), of STORM (5m) each, and every scenario
	go test -run 'TestPartitions|TestOutage|TestIsolatedPrimary|TestKills|TestPauses|TestRollingUnderLoad|TestLastCopies|TestUnclean|TestLeastInSync' -count=1 -timeout 60m ./internal/comettest -all
	go test -run TestStorm -count=1 -timeout 600m -parallel 4 ./internal/comettest -storms=$(or $(STORMS),100) -seed=$(or $(SEED),1) -storm=$(or $(STORM),5m)

.PHONY: mutations
mutations: ## Break rules of the broker's shell on purpose: scenarios in virtual time must find that
	go test -run TestMutations -v -count=1 -timeout 30m ./internal/comettest -mutate

.PHONY: fuzz
fuzz: ## Fuzz every parser for FUZZTIME (30s) each
	test/fuzz.sh $(or $(FUZZTIME),30s)

.PHONY: bench
bench: $(BIN)/benchstat $(BIN)/nats-server ## Run the benchmarks; docs/benchmarks.md says how to read them
	test/bench.sh

##@ Check
.PHONY: lint
lint: $(BIN)/golangci-lint $(BIN)/buf ## Lint Go, protos and modules
	$(BIN)/buf lint
	$(BIN)/golangci-lint run ./...
	cd test && $(BIN)/golangci-lint run --config ../.golangci.yml --build-tags k8s ./...

.PHONY: generate
generate: $(BIN)/buf ## Generate gen/ from proto/
	$(BIN)/buf generate

.PHONY: check-generate
check-generate: generate ## Prove that gen/ and the module files are in sync
	GOWORK=off go mod tidy -diff
	cd gen && GOWORK=off go mod tidy -diff
	cd test && GOWORK=off go mod tidy -diff
	git diff --exit-code -- gen
	test -z "$$(git status --porcelain -- gen)" || { git status --porcelain -- gen; exit 1; }

.PHONY: check-breaking
check-breaking: $(BIN)/buf ## Compare proto/ with the newest release tag
	tag=$$(git tag --list 'v*' --sort=-v:refname | head -n 1); \
	if [ -z "$$tag" ]; then echo "check-breaking: no release tag yet, nothing to compare with"; exit 0; fi; \
	$(BIN)/buf breaking --against ".git#tag=$$tag"

.PHONY: fmt
fmt: $(BIN)/golangci-lint $(BIN)/buf ## Format Go and protos
	$(BIN)/golangci-lint fmt ./...
	cd test && $(BIN)/golangci-lint fmt --config ../.golangci.yml ./...
	$(BIN)/buf format -w

##@ Deploy
.PHONY: image
image: ## Build the images comet:dev and comet-etcd:dev into the local Docker engine
	deploy/docker/build.sh

##@ Tools
$(BIN)/buf: ; cd / && GOBIN=$(BIN) GOWORK=off GOFLAGS=-trimpath go install github.com/bufbuild/buf/cmd/buf@$(BUF_VERSION)
$(BIN)/golangci-lint: ; cd / && GOBIN=$(BIN) GOWORK=off GOFLAGS=-trimpath go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)
$(BIN)/gotestsum: ; cd / && GOBIN=$(BIN) GOWORK=off GOFLAGS=-trimpath go install gotest.tools/gotestsum@$(GOTESTSUM_VERSION)
$(BIN)/benchstat: ; cd / && GOBIN=$(BIN) GOWORK=off GOFLAGS=-trimpath go install golang.org/x/perf/cmd/benchstat@$(BENCHSTAT_VERSION)
$(BIN)/nats-server: ; cd / && GOBIN=$(BIN) GOWORK=off GOFLAGS=-trimpath go install github.com/nats-io/nats-server/v2@$(NATS_VERSION)

.PHONY: test-tools
test-tools: $(BIN)/gotestsum

.PHONY: clean
clean: ## Remove what was built
	rm -rf bin test/clients/node_modules

.PHONY: help
help: ## Show this help
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
