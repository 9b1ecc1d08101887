# What quickstart and tests/run share: packages, toolchains, builds. Sourced, never run.
# shellcheck shell=bash

VIDI_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
VIDI_CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/vidi
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$VIDI_CACHE/target}
# CI and tests use the profile `ci`; people get the release build.
VIDI_PROFILE=${VIDI_PROFILE:-$([ "${CI:-}" = true ] && echo ci || echo release)}
VIDI_BIN=$CARGO_TARGET_DIR/$VIDI_PROFILE

say() { printf '== %s\n' "$*" >&2; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

need_root() {
  [ "$(id -u)" = 0 ] || fail "run this as root: it installs packages and starts libvirt"
}

# Installs the Debian packages that are missing; asks the registry only when one is.
ensure_packages() {
  local missing=() package
  for package in "$@"; do
    dpkg-query -W -f '${db:Status-Abbrev}' "${package%%/*}" 2>/dev/null | grep -q '^ii' || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  say "installing packages: ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -q >&2 || fail "apt-get update failed: check the machine's package sources"
  # An image may carry qemu-utils from backports, which holds back this release's QEMU.
  if printf '%s\n' "${missing[@]}" | grep -q '^qemu-system'; then missing+=(qemu-utils/bookworm); fi
  apt-get install -y -q --no-install-recommends --allow-downgrades "${missing[@]}" >&2 ||
    fail "packages could not be installed: ${missing[*]}"
}

HOST_PACKAGES=(qemu-system-x86 qemu-utils seabios libvirt-daemon libvirt-daemon-system
  libvirt-daemon-driver-qemu libvirt-clients iproute2 ca-certificates)
BUILD_PACKAGES=(gcc g++ libc6-dev make pkg-config libvirt-dev protobuf-compiler libprotobuf-dev cpio xz-utils)

version_at_least() { # have, want
  [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]
}

# cargo 1.95 or newer: the one that is there, or the distribution's.
ensure_rust() {
  [ ! -e "$HOME/.cargo/bin/cargo" ] || PATH=$HOME/.cargo/bin:$PATH
  local have
  have=$(cargo --version 2>/dev/null | awk '{print $2}' || true)
  if [ -z "$have" ] || ! version_at_least "$have" 1.95.0; then
    ensure_packages rustc-web cargo-web
    have=$(cargo --version 2>/dev/null | awk '{print $2}' || true)
    [ -n "$have" ] && version_at_least "$have" 1.95.0 ||
      fail "Rust 1.95 or newer is needed, and this distribution has ${have:-none}"
  fi
}

# Node 18 or newer with npm.
ensure_node() {
  local have
  have=$(node --version 2>/dev/null | tr -d v || true)
  if [ -z "$have" ] || ! version_at_least "$have" 18.19.0 || ! command -v npm >/dev/null; then
    ensure_packages nodejs npm
  fi
}

# What programs in these folders import, from the npm registry.
ensure_node_modules() { # folder...
  local folder
  ensure_node
  for folder in "$@"; do
    [ -d "$VIDI_ROOT/$folder/node_modules" ] ||
      (cd "$VIDI_ROOT/$folder" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error) >&2
  done
}

# Builds the pages when their sources changed.
build_web() {
  local web=$VIDI_ROOT/gateway/web key
  key=$(cd "$VIDI_ROOT" && find gateway/web proto/vidi -type f \
    -not -path '*/node_modules/*' -not -path '*/dist/*' -not -path '*/src/gen/*' -print0 |
    sort -z | xargs -0 sha256sum | sha256sum | cut -d ' ' -f 1)
  [ "$(cat "$web/dist/.key" 2>/dev/null || true)" != "$key" ] || return 0
  ensure_node
  say "building the pages"
  (cd "$web" && npm ci --no-audit --no-fund --loglevel=error && npm run --silent gen && npm run --silent build) >&2 ||
    fail "the pages could not be built"
  printf '%s\n' "$key" >"$web/dist/.key"
}

# Builds the five programs, or those that are named: always with the features of the whole workspace,
# so that what they share is built once.
build_programs() {
  local program chosen=()
  [ $# -gt 0 ] || set -- vidi-controller vidi-agent vidi-relay vidi-gateway vidictl
  for program in "$@"; do chosen+=(--bin "$program"); done
  ensure_rust
  say "building the programs (profile $VIDI_PROFILE, into $CARGO_TARGET_DIR)"
  (cd "$VIDI_ROOT" && cargo build --locked --profile "$VIDI_PROFILE" --workspace "${chosen[@]}" >&2) ||
    fail "the programs could not be built"
}

# Where AppArmor confines guests, libvirt's helper looks into the images for what a guest may open;
# Debian's rules let it read only files with a disk's ending, and an image is named by its digest.
ensure_apparmor() {
  local helper=usr.lib.libvirt.virt-aa-helper rule='/var/lib/vidi/images/** r,'
  [ "$(cat /sys/module/apparmor/parameters/enabled 2>/dev/null)" = Y ] || return 0
  [ -e "/etc/apparmor.d/$helper" ] && command -v apparmor_parser >/dev/null || return 0
  ! grep -qsxF "$rule" "/etc/apparmor.d/local/$helper" || return 0
  mkdir -p /etc/apparmor.d/local
  printf '%s\n' "$rule" >>"/etc/apparmor.d/local/$helper"
  apparmor_parser -r "/etc/apparmor.d/$helper" || fail "AppArmor refuses the rule in /etc/apparmor.d/local/$helper"
}

# Starts virtlogd and libvirtd where nothing else (systemd) does.
ensure_libvirt() { # uri
  ensure_apparmor
  [ "$1" = qemu:///system ] || return 0
  # What udev does on a normal machine; without it libvirt probes QEMU anew for every domain.
  if [ -e /dev/kvm ] && getent group kvm >/dev/null; then
    chgrp kvm /dev/kvm && chmod 660 /dev/kvm || say "could not give /dev/kvm to the group kvm"
  fi
  ! timeout 20 virsh -q -c "$1" version >/dev/null 2>&1 || return 0
  if [ -d /run/systemd/system ]; then
    systemctl start libvirtd || fail "libvirtd does not start: journalctl -u libvirtd says why"
  else
    say "starting virtlogd and libvirtd"
    mkdir -p /run/libvirt
    pidof virtlogd >/dev/null || virtlogd -d
    pidof libvirtd >/dev/null || libvirtd -d
  fi
  local try
  for try in $(seq 60); do
    ! timeout 20 virsh -q -c "$1" version >/dev/null 2>&1 || return 0
    sleep 0.5
  done
  fail "libvirt does not answer at $1"
}
