# A clean Debian root and a namespace to run in. Sourced, never run.
# shellcheck shell=bash

# The packages that ours depend on, from their control files.
dependencies() { # folder of packages
  local deb
  for deb in "$1"/*.deb; do dpkg-deb --field "$deb" Depends; done |
    tr ',' '\n' | sed 's/([^)]*)//; s/|.*//; s/ //g' | sort -u | grep -v '^vidi' | paste -s -d ,
}

# A tarball of Debian 12 with the dependencies of the packages and nothing else but curl. It is made
# anew for other dependencies, and each month.
base_root() { # folder of packages
  local wanted key tarball
  wanted=$(dependencies "$1")
  key=$(printf '%s\n' "bookworm $wanted curl" "$(date +%Y-%m)" | sha256sum | cut -c 1-12)
  tarball=$VIDI_CACHE/packages/root-$key.tar
  if [ ! -e "$tarball" ]; then
    say "making a clean Debian root"
    mkdir -p "${tarball%/*}"
    rm -f "${tarball%/*}"/root-*
    unshare --mount --propagation private mmdebstrap --quiet --format=tar --variant=minbase --include="$wanted,curl" \
      --dpkgopt=force-unsafe-io bookworm "$tarball.part" >&2 ||
      fail "the clean root could not be made; the Debian registry has to answer"
    mv "$tarball.part" "$tarball"
  fi
  printf '%s\n' "$tarball"
}

# Runs a program in the root with processes, network, mounts and devices of its own; when it ends, all
# that it started ends.
in_root() { # root program...
  local root=$1
  shift
  ROOT=$root unshare --mount --propagation private --pid --net --ipc --uts --fork --kill-child \
    bash -euc '
      hostname vidi-test
      ip link set lo up
      # A mount of its own, which libvirt needs a root to be.
      mount --bind "$ROOT" "$ROOT"
      mount -t proc proc "$ROOT/proc"
      mount -t sysfs -o ro sysfs "$ROOT/sys"
      mount -t tmpfs -o mode=755 tmpfs "$ROOT/run"
      mount -t tmpfs -o mode=755 tmpfs "$ROOT/dev"
      mkdir "$ROOT/dev/pts" "$ROOT/dev/shm"
      mount -t devpts -o newinstance,ptmxmode=666 devpts "$ROOT/dev/pts"
      mount -t tmpfs -o mode=1777 tmpfs "$ROOT/dev/shm"
      ln -s pts/ptmx "$ROOT/dev/ptmx"
      ln -s /proc/self/fd "$ROOT/dev/fd"
      while read -r name minor; do mknod -m 666 "$ROOT/dev/$name" c 1 "$minor"; done <<NODES
null 3
zero 5
full 7
random 8
urandom 9
NODES
      mknod -m 666 "$ROOT/dev/tty" c 5 0
      cd "$ROOT"
      pivot_root . .
      umount -l .
      exec chroot . "$@"
    ' bash "$@"
}
