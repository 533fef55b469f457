# What a developer and CI call. Go does the rest.

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null)
LDFLAGS  = -s -w -X main.version=$(VERSION)
PLATFORMS = linux/amd64 linux/arm64 darwin/arm64

GOFUMPT     = go run mvdan.cc/gofumpt@v0.12.0
STATICCHECK = go run honnef.co/go/tools/cmd/staticcheck@v0.8.2

.PHONY: build test e2e lint platforms fuzz

build: # the binary for this machine
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o etcd-rewind .

test: # no root, no network, no cluster
	go test ./...

e2e: # root on Debian: a real control plane, brought up by the tests
	e2e/install.sh
	e2e/parts/build.sh
	go test -tags e2e -count 1 -timeout 40m ./e2e

lint:
	@unformatted=$$($(GOFUMPT) -l .); if [ -n "$$unformatted" ]; then echo "gofumpt: $$unformatted"; exit 1; fi
	go vet ./...
	go vet -tags e2e ./e2e/...
	GOOS=darwin go vet ./...
	$(STATICCHECK) ./...
	$(STATICCHECK) -tags e2e ./e2e/...
	go mod verify
	go mod tidy -diff

platforms: # that it builds for all of them
	@for p in $(PLATFORMS); do \
		echo "build $$p"; \
		CGO_ENABLED=0 GOOS=$${p%/*} GOARCH=$${p#*/} go build -trimpath -ldflags '$(LDFLAGS)' -o dist/etcd-rewind-$${p%/*}-$${p#*/} . || exit 1; \
	done
	@ls -l dist

fuzz: # each for a minute
	go test -run '^$$' -fuzz FuzzSetHostPath -fuzztime 1m ./manifest
	go test -run '^$$' -fuzz FuzzAnnotate -fuzztime 1m ./manifest
