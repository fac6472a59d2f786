# The commands of a contributor. `make help` lists the targets.

GO       ?= go
BIN      := bin
LINT     := $(BIN)/golangci-lint
HELM     := $(BIN)/helm-render
VALE     := $(BIN)/vale
DEADCODE := $(BIN)/deadcode
SHAPE    := $(BIN)/shape
PROSE    := $(BIN)/prose
PAGES    := tools/pages/node_modules
PROMTOOL := $(BIN)/sandbox-promtool
IMAGE    ?= squall
# The seeds of the simulator, and the processes that share them.
SEEDS    ?= 1000000
FIRST    ?= 1
SHARDS   ?= $(shell nproc)
# The packages that are not helpers of tests, whose names end in test.
PRODUCTION := ^github.com/squall-chaos/squall/.*([^t]|[^s]t|[^e]st|[^t]est)$$
# The programs that the sidecars of the sandbox need. ENVOY=PATH uses another
# Envoy, and PROXYLESS=1 builds the sandbox without sidecars.
SIDECARS := $(if $(PROXYLESS),,$(if $(ENVOY),,$(BIN)/envoy) $(BIN)/envoy_bootstrap.json)
# The packages of the sandbox that are linted. cmd/controlplane only links
# programs of other projects, and analysing those takes longer than the build.
SANDBOX_PACKAGES := ./cmd/sandbox/... ./internal/... ./e2e/...

.PHONY: help build image sandbox demo test unit sim e2e pages torture oracle library fuzz lint prose fmt bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## /{printf "  %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build bin/squall
	$(GO) build -trimpath -ldflags='$(LDFLAGS)' -o $(BIN)/squall ./cmd/squall

image: ## build the container image with Docker, as IMAGE
	docker build -t $(IMAGE) .

sandbox: sandbox-notice build $(SIDECARS) ## build the sandbox: a real mesh on one machine (about 10 minutes the first time)
	GO=$(GO) tools/build.sh $(BIN)/sandbox ./cmd/sandbox -ldflags='-s -w'
	GO=$(GO) tools/build.sh $(BIN)/sandbox-controlplane ./cmd/controlplane -ldflags='-s -w'
	GO=$(GO) tools/build.sh $(BIN)/sandbox-prometheus github.com/prometheus/prometheus/cmd/prometheus -ldflags='-s -w' -tags remove_all_sd

.PHONY: sandbox-notice
sandbox-notice:
	@test -e $(BIN)/sandbox-prometheus || echo "The first build of the sandbox downloads up to 250 MB of Go modules and 37 MB for Envoy, and compiles etcd, kube-apiserver, istiod and Prometheus: about 10 minutes on 2 cores. Later builds take seconds."

demo: sandbox ## run two experiments on the sandbox: one that holds, one that deviates
	sandbox/demo.sh

test: unit e2e ## run all tests

unit: ## run the tests that need no sandbox
	$(GO) test -race ./...
	$(GO) test -count=1 ./internal/app/sim -run 'Seeds$$' -args -seeds 10000 -shards 2
	cd sandbox && $(GO) test -race ./internal/...
	cd tools/helm && $(GO) test -race ./...
	cd tools/shape && $(GO) test -race ./...

sim: ## simulate 1,000,000 seeds (about 4 hours; 10,000 are in unit). SEEDS and FIRST choose others
	$(GO) test -count=1 -timeout 0 -v ./internal/app/sim -run 'Seeds$$' -args -seeds $(SEEDS) -seed $(FIRST) -shards $(SHARDS)

e2e: sandbox $(HELM) $(PAGES) $(PROMTOOL) ## run the end-to-end tests on the sandbox
	cd sandbox && $(GO) test -race -count=1 -p 1 -timeout 20m ./e2e/...
	$(GO) test -race -count=1 ./internal/app/metrics -args -built

pages: build $(PAGES) ## open the reports in a browser, and check them against schemas (part of e2e, half a minute)
	cd sandbox && $(GO) test -race -count=1 ./e2e/pages

torture: sandbox ## kill runs at every write, break their servers and their disk (about 7 minutes; a sample is in e2e)
	cd sandbox && $(GO) test -count=1 -timeout 40m -v ./e2e/torture -args -full

oracle: sandbox ## compare more generated plans with istiod and Envoy (about 40 minutes; a sample is in e2e)
	cd sandbox && CI=1 $(GO) test -count=1 -timeout 60m -v ./e2e/oracle -run 'TestGenerated|TestSurroundings|TestGateways' -args -first 1000 -seeds 3000 -proxied 3000 -surroundings 2000 -gateways 600

library: sandbox ## run every experiment of the library on an idle machine, and kill a run of each (about 25 minutes)
	cd sandbox && CI=1 $(GO) test -count=1 -timeout 90m -v ./e2e/envoy -run TestLibrary -args -library

fuzz: ## search for input that breaks the loader or the match algebra, for 80 seconds
	$(GO) test -run '^$$' -fuzz FuzzLoad -fuzztime 60s ./experiments/files
	$(GO) test -run '^$$' -fuzz FuzzIntersect -fuzztime 20s ./mesh/match

lint: $(LINT) $(DEADCODE) $(SHAPE) prose ## run the linters
	$(LINT) run ./...
	cd sandbox && ../$(LINT) run $(SANDBOX_PACKAGES) && $(GO) vet ./cmd/controlplane
	cd tools/helm && ../../$(LINT) run ./...
	cd tools/shape && ../../$(LINT) run ./...
	$(GO) vet -vettool=$(abspath $(SHAPE)) ./...
	cd sandbox && $(GO) vet -vettool=$(abspath $(SHAPE)) -keyed -functions $(SANDBOX_PACKAGES)
	cd tools/helm && $(GO) vet -vettool=$(abspath $(SHAPE)) -keyed -functions ./...
	tools/deadcode/none.sh $(DEADCODE) -test ./...
	tools/deadcode/none.sh $(DEADCODE) -filter '$(PRODUCTION)' ./...
	cd sandbox && ../tools/deadcode/none.sh ../$(DEADCODE) -test $(SANDBOX_PACKAGES)
	cd tools/helm && ../deadcode/none.sh ../../$(DEADCODE) -test ./...

prose: $(VALE) ## check the language of comments, documents and messages (seconds)
	rm -rf $(PROSE)
	$(GO) run ./tools/prose -o $(PROSE) .
	$(GO) test ./internal/app/cli -run TestHelpTexts -args -write $(abspath $(PROSE))/help.txt
	$(GO) test ./tools/prose -args -vale $(abspath $(VALE))
	git ls-files '*.go' '*.md' '*.html' '*.js' '*.json' '*.sh' '*.tpl' '*.yaml' '*.yml' Makefile Dockerfile \
	| grep -v -e /testdata/ -e ^.vale/ -e /package-lock.json | xargs $(VALE) $(PROSE)

fmt: $(LINT) ## format the code
	$(LINT) fmt ./...
	cd sandbox && ../$(LINT) fmt $(SANDBOX_PACKAGES)
	cd tools/helm && ../../$(LINT) fmt ./...
	cd tools/shape && ../../$(LINT) fmt ./...

bench: sandbox ## print the figures of the README
	$(GO) test -run '^$$' -bench . -benchmem ./...
	cd sandbox && $(GO) test -count=1 -timeout 20m -run '^$$' -bench 'Run|Deviation' -benchtime 5x ./e2e
	cd sandbox && $(GO) test -count=1 -timeout 20m -run '^$$' -bench Serve -benchtime 1x ./e2e
	cd sandbox && $(GO) test -count=1 -timeout 20m -run '^$$' -bench Effect -benchtime 15x ./e2e/envoy

clean: ## remove the programs, the sandbox's directory and the runs
	rm -rf $(BIN) .sandbox squall-runs

$(LINT): tools/golangci-lint/go.mod tools/golangci-lint/go.sum
	cd tools/golangci-lint && $(GO) build -o ../../$@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

$(VALE): tools/vale/go.mod tools/vale/go.sum
	cd tools/vale && $(GO) build -ldflags='-s -w' -o ../../$@ github.com/vale-cli/vale/v3/cmd/vale

$(SHAPE): tools/shape/main.go tools/shape/go.mod tools/shape/go.sum
	cd tools/shape && $(GO) build -o ../../$@ .

$(DEADCODE): tools/deadcode/go.mod tools/deadcode/go.sum
	cd tools/deadcode && $(GO) build -o ../../$@ golang.org/x/tools/cmd/deadcode

$(PROMTOOL): sandbox/go.mod sandbox/go.sum
	cd sandbox && $(GO) build -ldflags='-s -w' -tags remove_all_sd -o ../$@ github.com/prometheus/prometheus/cmd/promtool

$(BIN)/envoy: tools/envoy/requirements.txt tools/envoy/setup.sh
	tools/envoy/setup.sh $@
	touch $@

# The template from which pilot-agent writes Envoy's first configuration.
$(BIN)/envoy_bootstrap.json: sandbox/go.mod
	mkdir -p $(BIN)
	cd sandbox && $(GO) mod download istio.io/istio && install -m 644 "$$($(GO) list -m -f '{{.Dir}}' istio.io/istio)/tools/packaging/common/envoy_bootstrap.json" ../$@
	touch $@

$(HELM): tools/helm/main.go tools/helm/go.mod tools/helm/go.sum
	cd tools/helm && $(GO) build -ldflags='-s -w' -o ../../$@ .

$(PAGES): tools/pages/package.json tools/pages/package-lock.json tools/pages/.npmrc
	tools/pages/setup.sh
	cd tools/pages && npm ci --ignore-scripts
	touch $@
