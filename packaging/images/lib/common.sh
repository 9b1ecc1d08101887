# What the templates' builds share: tools, packages, the folder of a result. Sourced, never run.
# The caller sets `name` and `here` first. `out` is then the folder of --out, or empty.
# shellcheck shell=bash

cache=${XDG_CACHE_HOME:-$HOME/.cache}/vidi/images/${name:?}

say() { echo "build $name: $*" >&2; }
fail() { say "$*"; exit 1; }

parse_arguments() {
    out=
    while [ $# -gt 0 ]; do
        case $1 in
        --out)
            [ $# -ge 2 ] || fail "--out needs a folder"
            out=$2
            shift 2
            ;;
        *)
            say "unknown argument $1; usage: packaging/images/build $name [--out DIR]"
            exit 64
            ;;
        esac
    done
}

apt_indices_updated=
update_apt() {
    [ -z "$apt_indices_updated" ] || return 0
    apt_indices_updated=1
    apt-get -qq update >&2 || say "apt-get update failed; going on with what apt knows"
}

# The tools, as file to look for and Debian package to install when it is not there.
need_tools() { # FILE:PACKAGE...
    local missing=() entry
    for entry in "$@"; do
        [ -e "${entry%%:*}" ] || missing+=("${entry##*:}")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    say "installing ${missing[*]}"
    [ "$(id -u)" = 0 ] || fail "not root: first run apt-get install ${missing[*]}"
    update_apt
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends \
        "${missing[@]}" >&2 || fail "apt-get could not install ${missing[*]}"
}

# The concrete package behind linux-image-amd64. The cloud flavour has no display drivers.
kernel_package() {
    apt-cache depends linux-image-amd64 2>/dev/null |
        sed -n 's/^ *Depends: \(linux-image-[0-9][^ ]*\)$/\1/p' | head -n 1
}

package_version() {
    apt-cache policy "$1" 2>/dev/null | sed -n 's/^ *Candidate: \([^(]*\)$/\1/p'
}

# A digest of the recipe's files (paths below its folder) and of this one.
recipe_hash() { # PATH...
    {
        (cd "$here" && find "$@" -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum)
        sha256sum <"${BASH_SOURCE[0]}"
    } | sha256sum | cut -c 1-12
}

is_complete() { # FOLDER KEY
    [ -e "$1/disk.qcow2" ] && [ -e "$1/vmlinuz" ] && [ -e "$1/initrd" ] &&
        [ "$(head -n 1 "$1/template.toml" 2>/dev/null)" = "# recipe $2" ]
}

# Moves a finished folder into place; another build of the same recipe may have been faster.
put_in_place() { # FROM TO KEY
    chmod 0755 "$1"
    mv -T "$1" "$2" 2>/dev/null || is_complete "$2" "$3" || fail "cannot move the result to $2"
}

# Copies the result to --out, replacing only a folder that this script made.
deliver() { # FOLDER KEY
    if [ -z "$out" ]; then
        echo "$1"
        return
    fi
    if ! is_complete "$out" "$2"; then
        local part="${out%/}.part.$$"
        if grep -qs '^# recipe ' "$out/template.toml"; then
            rm -rf "$out"
        elif [ -e "$out" ] && ! rmdir "$out" 2>/dev/null; then
            fail "$out is there and is no template's folder; name another or remove it"
        fi
        mkdir -p "$(dirname "$out")"
        cp -a --reflink=auto --sparse=always "$1" "$part"
        put_in_place "$part" "$out" "$2"
    fi
    (cd "$out" && pwd)
}

# Copies the modules of a list and all they depend on, dependencies first, and names the files in
# `order`. The .ko files say themselves what they need, so no depmod is necessary.
copy_modules() { # LIST KERNEL_ROOT DESTINATION
    local -A path_of=() seen=()
    local path module destination=$3
    while IFS= read -r path; do
        module=$(basename "$path" .ko)
        path_of[${module//-/_}]=$path
    done < <(find "$2/lib/modules" -name '*.ko')
    add_module() {
        local key=${1//-/_} needed
        [ -z "${seen[$key]:-}" ] || return 0
        seen[$key]=1
        [ -n "${path_of[$key]:-}" ] || fail "the kernel package has no module $1"
        for needed in $(grep -azo '^depends=.*' "${path_of[$key]}" | tr '\0' '\n' |
            sed -n 's/^depends=//p' | tr ',' ' '); do
            add_module "$needed"
        done
        cp "${path_of[$key]}" "$destination/"
        basename "${path_of[$key]}" >>"$destination/order"
    }
    while IFS= read -r module; do
        case $module in '' | '#'*) continue ;; esac
        add_module "$module"
    done <"$1"
}

# Takes the kernel proper out of the file that unpacks itself. QEMU starts it by its PVH entry, which
# saves 3 of 7 s: unpacking xz is slow in an emulated CPU. Other packings are left as they are.
copy_kernel() { # FROM TO
    field() { od -An -t"u$2" -j "$(($1))" -N "$2" "$3" | tr -d ' '; }
    # Offsets of setup_sects, payload_offset and payload_length: the kernel's Documentation/x86/boot.rst.
    local sectors offset length
    part() { dd if="$1" iflag=skip_bytes,count_bytes skip="$2" count="$3" bs=1M status=none; }
    sectors=$(field 0x1f1 1 "$1")
    offset=$(((sectors + 1) * 512 + $(field 0x248 4 "$1")))
    length=$(field 0x24c 4 "$1")
    if [ "$(part "$1" "$offset" 6 | od -An -tx1 | tr -d ' ')" = fd377a585a00 ]; then
        # Behind the stream stand four bytes with its unpacked size.
        part "$1" "$offset" "$((length - 4))" | xz -dc >"$2.unpacked"
        cp --sparse=always "$2.unpacked" "$2"
        rm "$2.unpacked"
    else
        say "the kernel is not packed with xz; using it as it is"
        cp "$1" "$2"
    fi
}

# Downloads a package into the folder one is in and unpacks it to ./PACKAGE, without installing it.
download() { # PACKAGE VERSION [TAR_OPTION...]
    local package=$1 version=$2
    shift 2
    apt-get -qq -o APT::Sandbox::User=root download "$package${version:+=$version}" >&2 ||
        { update_apt && apt-get -qq -o APT::Sandbox::User=root download "$package${version:+=$version}" >&2; } ||
        fail "cannot download $package $version; run apt-get update and try again"
    mkdir "$package"
    dpkg-deb --fsys-tarfile "$package"_*.deb | tar -x -C "$package" --exclude='./usr/share' "$@"
    rm -f "$package"_*.deb
}

# An archive for the kernel; the same recipe gives the same bytes: sorted, without owners, one date.
pack_initrd() { # FOLDER FILE
    find "$1" -exec touch -h -d @0 {} +
    (cd "$1" && find . | LC_ALL=C sort | cpio --quiet --reproducible -o -H newc -R 0:0) >"$2"
}

write_manifest() { # RESULT_FOLDER KEY CMDLINE; the [guest] table on standard input
    digest() { sha256sum "$1" | cut -d ' ' -f 1; }
    {
        cat <<END
# recipe $2
name = "$name"

[disk]
file = "disk.qcow2"
sha256 = "$(digest "$1/disk.qcow2")"

[boot]
kernel = "vmlinuz"
kernel_sha256 = "$(digest "$1/vmlinuz")"
initrd = "initrd"
initrd_sha256 = "$(digest "$1/initrd")"
cmdline = "$3"

[guest]
END
        cat
    } >"$1/template.toml"
}

# Makes the template, unless its folder is there, and prints the folder. The caller has `recipe`
# (its digest) and `make_template WORK_FOLDER RESULT_FOLDER KERNEL VERSION KEY`.
build_once() {
    local kernel version key folder work
    mkdir -p "$cache"
    kernel=$(kernel_package) || true
    if [ -z "$kernel" ]; then
        update_apt
        kernel=$(kernel_package) || true
    fi
    if [ -z "$kernel" ]; then
        # Without the package lists an earlier result of the same recipe is as good as any.
        for folder in "$cache/$recipe-"*; do
            key=$(basename "$folder")
            if is_complete "$folder" "$key"; then
                say "apt does not know linux-image-amd64; using $folder"
                deliver "$folder" "$key"
                return 0
            fi
        done
        fail "apt does not know linux-image-amd64; this needs a Debian machine with package lists"
    fi
    version=$(package_version "$kernel")
    [ -n "$version" ] || fail "apt has no version of $kernel; run apt-get update"
    key=$recipe-${kernel#linux-image-}-$(tr -c 'A-Za-z0-9.\n' '_' <<<"$version")
    folder=$cache/$key

    # One build at a time: a second one waits and finds the first one's result.
    exec 9>"$cache/.lock"
    flock 9
    if ! is_complete "$folder" "$key"; then
        work=$(mktemp -d "$cache/.work.XXXXXX")
        # shellcheck disable=SC2064 # the folder is known now and gone from scope later
        trap "rm -rf '$work'" EXIT
        mkdir -p "$work/result"
        (make_template "$work" "$work/result" "$kernel" "$version" "$key")
        chmod 0644 "$work/result"/*
        [ ! -d "$folder" ] || rm -rf "$folder"
        put_in_place "$work/result" "$folder" "$key"
        say "made $folder"
    fi
    exec 9>&-
    deliver "$folder" "$key"
}
