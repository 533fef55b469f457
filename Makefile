# What a developer and CI call. Go does the rest.

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null)
LDFLAGS  = -s -w -X main.version=$(VERSION)
PLATFORMS = darwin/arm64 # besides Linux, which release builds for: inspect, diff and practice run there

LINT        = go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
GOVULNCHECK = go run golang.org/x/vuln/cmd/govulncheck@v1.1.4

.PHONY: build test test-busy race check e2e e2e-backup e2e-parts e2e-one e2e-two e2e-three e2e-rest e2e-long e2e-disks e2e-kills e2e-fleet e2e-systemd e2e-versions e2e-kind e2e-cgroup2 e2e-external e2e-debts supported lint vuln platforms fuzz bench bench-backup bench-outage bench-outage-three bench-outage-systemd bench-recovery bench-staging bench-screen release release-try arm64 site

# The binary for nodes has no practice in it: 34 MB instead of 52.
NODE_TAGS = -tags nopractice,grpcnotrace

build: # the binary for nodes
	CGO_ENABLED=0 go build $(NODE_TAGS) -trimpath -ldflags '$(LDFLAGS)' -o etcd-rewind .

test: # no root, no network, no cluster; four packages at a time, for they wait more than they compute, the longest first
	go test -p 4 -timeout 30m ./steps ./cli ./snapshot ./fleet ./practice ./...

test-busy: # the same beside six busy loops: nothing may depend on being fast
	.ci/busy go test -count 1 -timeout 30m ./...

# The matrices that break a run off at each of its actions take the same paths
# hundreds of times, floods of bytes are about amounts and kubelet's rules about
# times: nothing in them is for the race detector.
NOT_RACED = TestCrashMatrix|TestWhateverFails|TestARedoComesBackFrom|TestAnUndoThatBreaksOff|SaysFarTooMuch|KeepsKubeletsRules

check: lint test # what has to pass before a change is sent; no root

RACED ?= ./backup ./defect ./drill ./fleet ./node ./outbox ./pipe ./practice ./restore ./settle ./steps ./trust ./ui/...

race: # the packages with goroutines, under the race detector (10 minutes on two slow cores)
	go test -race -timeout 30m -skip '$(NOT_RACED)' $(RACED)

# Tests wait much, so of three jobs two go on at the same time, each on nodes of its own
# (a third would have two slow cores do little else than keep control planes alive): those of
# one node, half of them on a systemd host of the oldest Kubernetes and half on one of the
# newest, and three nodes of the newest. It has to fit into CI's 35 minutes: what is about
# a layout, a fault among several nodes, or a host of its own is in targets of its own, which
# make e2e-rest calls.
# What isn't in TWO, and not named after hosts of its own, is in ONE. LONG are of neither: they
# take minutes each, and are about what seldom changes.
THREE = ThreeControlPlanes|AConductor|ANodeThatIs|AlteredOnOneNode|ATicket
TWO   = TestTheWizard|TestUndo|RandomMoment|IgnoresRemoved
LONG  = IsSettled|GracePeriod|KubeadmRenders|PlansCommands|DrillOfABackup|DrillThatIsKilled|Surroundings/(containerd_is_restarted_while_kube|kubelet_is_away)
HOSTS = OnSystemd|OnCgroupV2|BehindHAProxy|ExternalEtcd|Debts

e2e: e2e-parts # root on Debian: real control planes, brought up by the tests
	$(MAKE) -j 2 --output-sync=target e2e-one e2e-three e2e-two

e2e-parts: # what they are made of; nothing to do when it is there
	e2e/install.sh
	e2e/parts/build.sh kubernetes kubernetes-1.37 etcd-3.6 containerd-2.4 host versitygw

e2e-one:
	ETCD_REWIND_E2E_ENTRIES=systemd-1.34 go test -tags e2e -count 1 -timeout 60m -skip '$(THREE)|$(TWO)|$(LONG)|$(HOSTS)' ./e2e

e2e-two:
	ETCD_REWIND_E2E_ENTRIES=systemd-1.37 go test -tags e2e -count 1 -timeout 60m -run '$(TWO)|RealKubelet' -skip '$(THREE)|$(HOSTS)' ./e2e
	$(MAKE) e2e-backup

e2e-three: # root on Debian: a restore of three hosts with systemd and the newest Kubernetes
	e2e/install.sh
	ETCD_REWIND_E2E_SHARED=no ETCD_REWIND_E2E_ENTRIES=three-1.37 \
		go test -tags e2e -count 1 -timeout 30m -run 'AreRestoredAsOne|AlteredOnOneNode' -v ./e2e

e2e-long: # root on Debian: of one node, what a restore leaves, kubeadm's phases, drills, a grace period (10 minutes)
	e2e/install.sh
	ETCD_REWIND_E2E_ENTRIES=systemd-1.34 go test -tags e2e -count 1 -timeout 30m -run '$(LONG)' -skip KubeadmRenders -v ./e2e
	ETCD_REWIND_E2E_ENTRIES=systemd-1.37 go test -tags e2e -count 1 -timeout 30m -run KubeadmRenders -v ./e2e

e2e-rest: e2e-long e2e-systemd e2e-fleet e2e-external e2e-disks e2e-debts e2e-kind e2e-kills e2e-versions e2e-cgroup2 # what CI leaves out, one after the other (a night)

e2e-kills: # 40 restores killed at random moments (20 minutes), on the bare node, for its speed
	ETCD_REWIND_E2E_ENTRIES=bare-1.34 ETCD_REWIND_KILLS=40 go test -tags e2e -count 1 -timeout 60m -run TestARestoreThatIsKilledAtARandomMoment -v ./e2e

e2e-fleet: # root on Debian: five restores of three nodes, and a fault in each phase (30 minutes)
	ETCD_REWIND_E2E_SHARED=no ETCD_REWIND_FLEET=all go test -tags e2e -count 1 -timeout 60m -run '$(THREE)' -skip '$(HOSTS)' -v ./e2e

e2e-systemd: # root on Debian: hosts with systemd of both versions: reboots, timers, everything lost (10 minutes)
	e2e/install.sh
	ETCD_REWIND_E2E_SHARED=no ETCD_REWIND_E2E_ENTRIES='systemd-1.34 systemd-1.37' \
		go test -tags e2e -count 1 -timeout 40m -run OnSystemd -v ./e2e

e2e-disks: # root on Debian: practice nodes on file systems of their own that get full, read-only or are noexec (5 minutes)
	e2e/install.sh
	go test -tags e2e -count 1 -timeout 15m ./e2e/disks

e2e-backup: # stores of backups on servers that others have written: S3 (versitygw) and OpenSSH's SFTP
	e2e/parts/build.sh versitygw
	go test -tags e2e -count 1 -timeout 10m -run Real -v ./backup

VERSIONS = systemd-1.34-etcd-3.5 systemd-1.35 systemd-1.36 evented-1.36 systemd-1.37-etcd-3.7 evented-1.37 minikube-1.37 kind-1.37

e2e-versions: # root on Debian: the rest of the matrix, on hosts with systemd (40 minutes)
	e2e/install.sh
	ETCD_REWIND_E2E_SHARED=no ETCD_REWIND_E2E_ENTRIES='$(VERSIONS)' \
		go test -tags e2e -count 1 -timeout 90m -run OnSystemd -v ./e2e

e2e-kind: # root on Debian: three control planes as kind sets them up, behind haproxy (5 minutes)
	e2e/install.sh haproxy
	ETCD_REWIND_E2E_SHARED=no ETCD_REWIND_E2E_ENTRIES=kind-three-1.37 \
		go test -tags e2e -count 1 -timeout 20m -run BehindHAProxy -v ./e2e

e2e-cgroup2: # root on Debian: a node on cgroup v2, in a virtual machine without KVM (20 minutes)
	e2e/install.sh user-mode-linux
	ETCD_REWIND_E2E_SHARED=no go test -tags e2e -count 1 -timeout 60m -run OnCgroupV2 -v ./e2e

e2e-external: # root on Debian: etcd on systemd hosts of its own (30 minutes on an idle machine)
	e2e/install.sh
	ETCD_REWIND_E2E_SHARED=no go test -tags e2e -count 1 -timeout 90m -run ExternalEtcd -v ./e2e

e2e-debts: # root on Debian: what a restore leaves, measured on workers of Kubernetes 1.34 and 1.37, and settled (40 minutes)
	e2e/install.sh
	ETCD_REWIND_E2E_SHARED=no ETCD_REWIND_E2E_ENTRIES='debts-1.34 debts-1.37' \
		go test -tags e2e -count 1 -timeout 90m -run Debts -v ./e2e

supported: # docs/supported.md, from the table of what the end-to-end tests run on
	go test ./e2e/matrix -run TestTheDocumentation -update

lint: # with the tag e2e it sees every file; what is built for darwin is built once, here and in platforms
	$(LINT) run --build-tags e2e
	GOOS=darwin GOARCH=arm64 go vet ./...
	go mod verify
	go mod tidy -diff

vuln: # known vulnerabilities; needs vuln.go.dev, or a mirror of it in GOVULNDB
	$(GOVULNCHECK) $(if $(GOVULNDB),-db $(GOVULNDB)) ./...

platforms: # that it builds for them, too
	@for p in $(PLATFORMS); do \
		echo "build $$p"; \
		CGO_ENABLED=0 GOOS=$${p%/*} GOARCH=$${p#*/} go build $(NODE_TAGS) -ldflags '$(LDFLAGS)' -o dist/etcd-rewind-$${p%/*}-$${p#*/} . || exit 1; \
	done
	@ls -l dist

release: # packages, man pages, completions, licences and checksums in dist/release
	release/build

site: # the documentation as HTML in dist/site: no server, no script
	go run ./release site dist/site

release-try: # root on Debian: that they are the same when built again, and work in a clean tree
	release/install.sh
	release/try

arm64: # root on Debian, Linux 6.7 or later: the binary for arm64, run under qemu-user
	release/install.sh
	release/arm64

bench: # inspect and diff beside etcdutl, and of a million namespaces, with their limits: some minutes, 6 GB in /tmp
	go test ./snapshot -run '^$$' -bench 'BesideThePeer|ACrowd' -benchtime 1x -timeout 30m

bench-backup: # a backup of 2.4 GB beside etcdctl, zstd and age in a shell, with limits (some minutes, 12 GB in /tmp); needs zstd
	go test ./backup -run '^$$' -bench Backup -benchtime 1x -timeout 30m -v

TUNED ?= # what of this machine's kernel was tuned by hand, for the pages
OUTAGE = go run ./e2e/outage -docs docs -tuned '$(strip $(TUNED))'

bench-outage: # root on Debian: how long the API is down, by hand and by etcd-rewind (an hour and a half)
	e2e/install.sh
	e2e/parts/build.sh kubernetes etcd-3.6
	$(OUTAGE) -big 7

bench-outage-three: # the same on three control planes, on this one machine (half an hour)
	e2e/install.sh
	e2e/parts/build.sh kubernetes etcd-3.6
	$(OUTAGE) -nodes 3

bench-outage-systemd: # the same on a host with systemd, with Kubernetes 1.37 (an hour)
	e2e/install.sh
	e2e/parts/build.sh kubernetes-1.37 etcd-3.6 containerd-2.4 host
	$(OUTAGE) -on systemd-1.37 -random 10

bench-recovery: # root on Debian: from a dead control plane to an answer, by hand and by etcd-rewind; and undo (an hour and a half)
	e2e/install.sh
	e2e/parts/build.sh kubernetes etcd-3.6
	$(OUTAGE) -recovery -big 7

bench-staging: # root on Debian: a restore of 2.4 GB beside etcdutl's, on ext4 and XFS (10 minutes, 20 GB in /tmp)
	e2e/install.sh
	go test ./snapshot -run '^$$' -bench Staging -benchtime 1x -timeout 30m -v

bench-screen: build # start, first frame, frames, cost of waiting and sizes, with their limits: 2 minutes, 3 GB in /tmp
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o dist/etcd-rewind-with-practice .
	go test ./cli ./ui -run '^$$' -bench Screen -benchtime 1x -timeout 15m

# Package:target, a line for each thing that comes from outside.
FUZZ = \
	manifest:FuzzSetHostPath \
	manifest:FuzzAnnotate \
	manifest:FuzzFlags \
	snapshot:FuzzEncryptionConfig \
	snapshot:FuzzPages \
	steps:FuzzJournal \
	manifest:FuzzDiff \
	manifest:FuzzLayout \
	unit:FuzzUnit \
	node:FuzzProcess \
	node:FuzzKubeletSetup \
	trust:FuzzText \
	snapshot:FuzzPacked \
	snapshot:FuzzShown \
	fleet:FuzzTicket \
	fleet:FuzzAgentMessages \
	fleet:FuzzRequests
FUZZTIME ?= 1m

fuzz: # each for a minute
	@for t in $(FUZZ); do \
		echo "fuzz $$t"; \
		go test -run '^$$' -fuzz "^$${t#*:}$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x ./$${t%:*} || exit 1; \
	done
