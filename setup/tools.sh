#!/bin/sh
# Installs what the tests, the demo and the benches need beside Rust, as far as it is missing; with a COMMAND and its PACKAGE, that alone.
# Debian and its kin.
set -eu

PATH=$PATH:/usr/sbin:/sbin
missing=
need() { # need COMMAND PACKAGE
    command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}
if [ $# = 2 ]; then
    need "$1" "$2"
else
    need cc gcc
    need curl curl
    need zstd zstd
    need rsync rsync
    need restic restic
    need setfacl acl
    need setfattr attr
    need strace strace
    need setpriv util-linux
    need pip3 python3-pip
    need systemd-analyze systemd
    need systemd-nspawn systemd-container
    need debootstrap debootstrap
    need jq jq
    need time time
    need shellcheck shellcheck
    need mkfs.ext4 e2fsprogs
    need mkfs.xfs xfsprogs
    need mkfs.btrfs btrfs-progs
    ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing="$missing postgresql"
    ls /usr/share/postgresql/*/extension/postgres_fdw.control >/dev/null 2>&1 || missing="$missing postgresql-contrib"
fi

[ -n "$missing" ] || exit 0
echo "installing:$missing"
as_root=
[ "$(id -u)" = 0 ] || as_root=sudo
export DEBIAN_FRONTEND=noninteractive
# Packages that bring a server must not start one: the tests start their own.
$as_root mkdir -p /etc/postgresql-common
grep -qs '^create_main_cluster *= *false' /etc/postgresql-common/createcluster.conf ||
    echo 'create_main_cluster = false' | $as_root tee -a /etc/postgresql-common/createcluster.conf >/dev/null
$as_root apt-get -qq update
# shellcheck disable=SC2086 # a list of packages
$as_root apt-get -qq install -y --no-install-recommends $missing >/dev/null
