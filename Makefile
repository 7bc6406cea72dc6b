# What people do with this tree. `make` alone builds it.
PREFIX ?= /usr/local
HOST := $(shell rustc -vV | sed -n 's/^host: //p')
TARGET := $(or $(CARGO_TARGET_DIR),target)/$(HOST)/release
PROGRAMS := dhow dhow-runtime dhow-monitor

.PHONY: all build test check demo bench test-vm install packages clean

all: build

build:
	cargo build --release --workspace --bins

# Everything that CI asks for: format, lints, unit tests, integration tests.
test: packages check
	cargo build --release --workspace --all-targets
	scripts/run-tests.sh

check:
	cargo fmt --all -- --check
	cargo clippy --release --workspace --all-targets -- -D warnings

demo: build
	scripts/packages.sh busybox-static
	scripts/demo.sh $(TARGET)

bench: build
	scripts/packages.sh hyperfine jq strace gcc libc6-dev podman buildah skopeo runc crun containerd docker-registry busybox-static e2fsprogs
	benches/run.sh $(TARGET)

# What this machine's cgroups and privileges cannot show: the same programs under the distribution's kernel in qemu, with cgroup v2 alone, with v1 alone, with
# systemd over each, on disks that fail, and with SELinux (tests/vm/README.md).
GUESTS ?= v2 v1 full disk systemd systemd-v1
test-vm: build
	scripts/packages.sh qemu-system-x86 cpio busybox-static criu tar apparmor mmdebstrap e2fsprogs util-linux uidmap \
	  bsdutils checkpolicy dmsetup iproute2 xfsprogs
	scripts/test-vm.sh $(TARGET) $(GUESTS)

# What the tests need from the distribution.
packages:
	scripts/packages.sh busybox-static mmdebstrap docker-registry openssl skopeo gcc libc6-dev libseccomp-dev e2fsprogs xfsprogs mount procps util-linux iproute2 uidmap \
	  podman buildah docker.io containerd runc curl strace

install: build
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/man/man1 \
	  $(DESTDIR)$(PREFIX)/share/bash-completion/completions \
	  $(DESTDIR)$(PREFIX)/share/zsh/site-functions \
	  $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
	install -m 755 $(addprefix $(TARGET)/,$(PROGRAMS)) $(DESTDIR)$(PREFIX)/bin/
	$(TARGET)/dhow manual $(DESTDIR)$(PREFIX)/share/man/man1
	$(TARGET)/dhow completion bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/dhow
	$(TARGET)/dhow completion zsh > $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_dhow
	$(TARGET)/dhow completion fish > $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/dhow.fish
	$(TARGET)/dhow-runtime manual $(DESTDIR)$(PREFIX)/share/man/man1
	$(TARGET)/dhow-runtime completion bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/dhow-runtime
	$(TARGET)/dhow-runtime completion zsh > $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_dhow-runtime
	$(TARGET)/dhow-runtime completion fish > $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/dhow-runtime.fish

clean:
	cargo clean
