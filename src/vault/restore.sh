#!/bin/sh
# Restores the day that this script lies in, without daykeep: the databases into the server that PGHOST, PGPORT, PGUSER and
# the other variables of libpq name, and the file trees. It needs sh, the PostgreSQL client programs, zstd and the usual
# small programs (awk, sed, find, cp). RESTORE.md beside it tells the whole way.
set -u

usage() {
    cat <<'USAGE'
usage: ./restore.sh [--only database|trees] [--files DIR] [--jobs N] [--check] [--no-check]

Restores this day: first the databases, then the file trees.

  --only database   only the databases
  --only trees      only the file trees
  --files DIR       put the trees into DIR/<tree>, not where they were
  --jobs N          build N indexes at a time (default: 1)
  --check           only check that the day is sound and could be restored
  --no-check        do not read all of the day once beforehand

The target server is named by libpq's environment: PGHOST, PGPORT, PGUSER, PGPASSFILE, ... The role must be a
superuser. A database that is there already and is not empty, or a directory that is not empty, stops the restore before
anything is changed.
USAGE
}

say() { echo "restore.sh: $*"; }
die() {
    echo "restore.sh: $*" >&2
    exit 1
}
need() { command -v "$1" >/dev/null 2>&1 || die "the program $1 is needed and is not there"; }

# --- what is asked for -------------------------------------------------------------------------------------------------

only='' files='' jobs=1 check=yes check_only=no
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) usage && exit 0 ;;
        --check) check_only=yes ;;
        --no-check) check=no ;;
        --only | --files | --jobs)
            [ $# -ge 2 ] || die "$1 needs a value; see --help"
            case $1 in
                --only) only=$2 ;;
                --files) files=$2 ;;
                --jobs) jobs=$2 ;;
            esac
            shift
            ;;
        *) die "unknown option $1; see --help" ;;
    esac
    shift
done
case $only in '' | database | trees) ;; *) die "--only takes database or trees, not $only" ;; esac
case $jobs in '' | *[!0-9]* | 0) die "--jobs takes a number from 1, not $jobs" ;; esac
case $files in '' | /*) ;; *) files=$(pwd)/$files ;; esac

cd "$(dirname "$0")" || exit 1
[ -f manifest.json ] || die "there is no manifest.json beside this script: this is not a whole day"

LC_ALL=C
PGOPTIONS="${PGOPTIONS:-} -c default_transaction_read_only=off"
PGDATABASE=${PGDATABASE:-postgres}
export LC_ALL PGOPTIONS PGDATABASE
umask 077
scratch=$(mktemp -d) || die "cannot make a directory for scratch files"
trap 'rm -rf "$scratch"' EXIT
trap 'exit 1' HUP INT TERM
# A pipe tells the status of its last program only: the others leave a word here when they fail.
failed=$scratch/failed
tab=$(printf '\t')

# --- what is in the day ------------------------------------------------------------------------------------------------

# JSON, one value a line: its keys, then itself, tabs between. Escapes are left as printf's %b takes them.
flatten() {
    awk '
    function put(value,   i, line) {
        for (i = 1; i <= depth; i++) line = line key[i] "\t"
        print line value
    }
    function escape(   e, code) {
        e = substr($0, ++p, 1)
        if (e == "\\") return "\\\\"
        if (e == "\"" || e == "/") return e
        if (e != "u") return "\\" e
        code = index(hex, tolower(substr($0, p + 3, 1))) * 16 + index(hex, tolower(substr($0, p + 4, 1))) - 17
        p += 4
        return sprintf("\\0%03o", code)
    }
    function text(   c, s) {
        for (p++; (c = substr($0, p, 1)) != "\"" && p <= n; p++) s = s (c == "\\" ? escape() : c)
        return s
    }
    BEGIN { hex = "0123456789abcdef" }
    {
        n = length($0)
        for (p = 1; p <= n; p++) {
            c = substr($0, p, 1)
            if (c == "{") { key[++depth] = ""; list[depth] = 0; is_key = 1 }
            else if (c == "[") { key[++depth] = 0; list[depth] = 1; is_key = 0 }
            else if (c == "}" || c == "]") { depth--; is_key = 0 }
            else if (c == ":") is_key = 0
            else if (c == "," && list[depth]) key[depth]++
            else if (c == ",") is_key = 1
            else if (c == "\"" && is_key) key[depth] = text()
            else if (c == "\"") put(text())
            else if (c ~ /[-0-9a-z]/) {
                word = ""
                while ((c = substr($0, p, 1)) ~ /[-+.0-9A-Za-z]/) { word = word c; p++ }
                p--
                put(word)
            }
        }
    }' "$@"
}

# value KEY... : one value of the manifest.
value() {
    keys=$(IFS=$tab && echo "$*")
    wanted=$keys awk 'BEGIN { k = ENVIRON["wanted"] "\t" } index($0, k) == 1 { print substr($0, length(k) + 1); exit }' \
        "$scratch/manifest"
}

# plain TEXT: with its escapes undone.
plain() { printf '%b' "$1"; }

flatten manifest.json >"$scratch/manifest" || die "cannot read manifest.json"
[ "$(value format)" = 1 ] || die "manifest.json is of a format that this script does not know"
awk -F '\t' '$1 == "database" && $2 == "databases" && $4 == "name" { print $3 }' "$scratch/manifest" >"$scratch/databases"
awk -F '\t' '$1 == "trees" && $3 == "source" { print $2 }' "$scratch/manifest" >"$scratch/trees"
[ "$only" = trees ] && : >"$scratch/databases"
[ "$only" = database ] && : >"$scratch/trees"

# database NUMBER: sets name, dir and encoding.
database() {
    name=$(plain "$(value database databases "$1" name)")
    dir=database/$(plain "$(value database databases "$1" directory)")
    encoding=$(value database databases "$1" encoding)
}

# tree NAME: sets source and target.
tree() {
    source=trees/$1
    if [ -n "$files" ]; then target=$files/$1; else target=$(plain "$(value trees "$1" source)"); fi
}

# --- is it sound -------------------------------------------------------------------------------------------------------

check_digests() {
    [ ! -f manifest.blake3 ] || b3sum --check --quiet manifest.blake3 >&2 ||
        die "manifest.json is damaged; nothing was changed"
    only=$only awk -F '\t' '
        $1 == "digests" && !(ENVIRON["only"] == "trees" && $2 ~ /^database\//) { print $3 "  " $2 }
        ' "$scratch/manifest" >"$scratch/sums"
    [ "$only" = database ] || tree_digests >>"$scratch/sums" || die "files.jsonl.zst is damaged"
    [ -e "$failed" ] && die "files.jsonl.zst is damaged"
    [ -s "$scratch/sums" ] || return 0
    say "checking $(wc -l <"$scratch/sums") files against their BLAKE3 digests"
    b3sum --check --quiet "$scratch/sums" >&2 || die "the day is damaged: see the lines above; nothing was changed"
}

# Names that b3sum cannot read (not UTF-8, control characters) are left to the sums of check_sizes.
tree_digests() {
    [ -s "$scratch/trees" ] || return 0
    { zstd -dcq files.jsonl.zst || : >"$failed"; } | flatten | awk -F '\t' '
        $1 == "tree" { tree = $2 }
        $1 == "path" { path = NF == 2 ? $2 : "" }
        $1 == "blake3" && path != "" { print (path ~ /\\/ ? "\\" : "") $2 "  trees/" tree "/" path }'
}

# A file that was cut short or is missing shows in the counts and sums of its tree, whatever tools there are.
check_sizes() {
    while IFS= read -r each; do
        tree "$each"
        want="$(value trees "$each" files) $(value trees "$each" bytes)"
        have=$(find "$source" -type f -printf '%s\n' | awk '{ n++; s += $1 } END { printf "%d %.0f", n, s }')
        [ "$have" = "$want" ] ||
            die "the tree $each is damaged: it has (files bytes) $have, the manifest says $want; nothing was changed"
    done <"$scratch/trees"
    while IFS= read -r each; do
        database "$each"
        for part in rest.dump load.txt; do
            [ -f "$dir/$part" ] || die "the day is damaged: there is no $dir/$part; nothing was changed"
        done
        pg_restore --list "$dir/rest.dump" >/dev/null || die "$dir/rest.dump is damaged; nothing was changed"
        find "$dir" -name '*.zst' ! -name '*.patch.zst' -exec zstd -tq --long=31 {} + ||
            die "rows of $dir are damaged: see the lines above; nothing was changed"
    done <"$scratch/databases"
}

# --- could it be restored ----------------------------------------------------------------------------------------------

# ask DATABASE SQL [VARIABLE VALUE]: what the target server answers.
ask() {
    printf '%s\n' "$2" | PGDATABASE=$1 psql -X -q -A -t -v ON_ERROR_STOP=1 -v "${3:-unused}=${4:-}" -f -
}

check_server() {
    target_version=$(ask "$PGDATABASE" 'SHOW server_version_num') ||
        die "cannot ask the target server (PGHOST=${PGHOST:-}); nothing was changed"
    target_major=$((target_version / 10000))
    day_major=$(($(value database server_version) / 10000))
    restore_major=$(pg_restore --version | sed 's/^[^0-9]*\([0-9]*\).*/\1/')
    [ "$target_major" -ge "$day_major" ] ||
        say "warning: the target server has version $target_major, the day is of version $day_major"
    [ "$(ask "$PGDATABASE" 'SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user')" = t ] ||
        die "the role that this connects as is no superuser of the target server; nothing was changed"
    while IFS= read -r each; do
        database "$each"
        check_database
    done <"$scratch/databases"
}

is_there() {
    there=$(ask "$PGDATABASE" \
        "SELECT pg_catalog.pg_encoding_to_char(encoding) FROM pg_catalog.pg_database WHERE datname = :'name'" \
        name "$name") || die "cannot ask the target server for its databases"
    [ -n "$there" ]
}

# A database that is there takes the day's rows only when nobody has put anything into it.
check_database() {
    is_there || return 0
    objects=$(ask "$name" "SELECT (SELECT count(*) FROM pg_catalog.pg_class WHERE oid >= 16384)
        + (SELECT count(*) FROM pg_catalog.pg_proc WHERE oid >= 16384)
        + (SELECT count(*) FROM pg_catalog.pg_type WHERE oid >= 16384)
        + (SELECT count(*) FROM pg_catalog.pg_namespace WHERE oid >= 16384)
        + (SELECT count(*) FROM pg_catalog.pg_extension WHERE oid >= 16384)
        + (SELECT count(*) FROM pg_catalog.pg_largeobject_metadata)") ||
        die "cannot look into the database $name of the target server; nothing was changed"
    [ "$objects" = 0 ] ||
        die "the database $name of the target server is not empty: restore into a new server, or drop it first; nothing was changed"
    [ "$there" = "$encoding" ] ||
        say "warning: the database $name is there with the encoding $there; the day has it in $encoding"
}

check_targets() {
    while IFS= read -r each; do
        tree "$each"
        [ -z "$(ls -A "$target" 2>/dev/null)" ] ||
            die "$target is not empty: move it away, or restore elsewhere with --files; nothing was changed"
    done <"$scratch/trees"
    [ ! -s "$scratch/trees" ] || [ "$(id -u)" -eq 0 ] ||
        say "warning: you are not root: every file that is restored will be yours"
}

# --- the databases -----------------------------------------------------------------------------------------------------

half() {
    die "$1; the database $name is half restored: drop it, then start again"
}

# Roles and tablespaces that are there already stay (and take the day's settings); any other error is one.
restore_globals() {
    [ -f database/globals.sql ] || return 0
    say "roles and tablespaces"
    PGOPTIONS="$PGOPTIONS -c lc_messages=C" psql -X -q -v VERBOSITY=verbose -f database/globals.sql \
        >/dev/null 2>"$scratch/globals" || die "cannot restore the roles: $(cat "$scratch/globals")"
    awk '
        NR == FNR { statement[FNR] = $0; next }
        !/^psql:/ || /^psql:[^:]*:[0-9]+: (NOTICE|WARNING|INFO|LOG):/ { next }
        {
            split($0, part, ":")
            if (!(/: ERROR:  42710: / && statement[part[3]] ~ /^CREATE (ROLE|TABLESPACE) /)) { print; bad = 1 }
        }
        END { exit bad }' database/globals.sql "$scratch/globals" >&2 ||
        die "the roles and tablespaces could not be restored: see the lines above"
}

# Makes the database and what belongs to it as a whole: owner, rights, comment, settings. One that is there is not made.
create_database() {
    skip=0
    is_there && skip=1
    pg_restore --list --create "$dir/rest.dump" >"$scratch/list" || die "cannot read $dir/rest.dump"
    grep -E '^[0-9]+; [0-9]+ [0-9]+ (ACL|COMMENT|SECURITY LABEL) - DATABASE ' "$scratch/list" >"$scratch/wanted"
    { pg_restore --create --use-list="$scratch/wanted" --file=- "$dir/rest.dump" || : >"$failed"; } |
        awk -v skip="$skip" 'skip && /^CREATE DATABASE / { skip = 0; next } !/^SET transaction_timeout = 0;$/' |
        psql -X -q -v ON_ERROR_STOP=1 -f - >/dev/null || half "cannot make the database $name"
    [ ! -e "$failed" ] || half "cannot read $dir/rest.dump"
}

# section NAME: that part of rest.dump.
section() {
    if [ "$restore_major" -ge 17 ] && [ "$target_major" -lt 17 ]; then
        # pg_restore 17 sets a parameter that older servers do not have.
        { pg_restore --section="$1" --file=- "$dir/rest.dump" || : >"$failed"; } |
            sed '1,40{/^SET transaction_timeout = 0;$/d;}' |
            PGDATABASE=$name psql -X -q -v ON_ERROR_STOP=1 -f - >/dev/null ||
            half "cannot restore the $1 of the database $name"
        [ ! -e "$failed" ] || half "cannot read $dir/rest.dump"
        return
    fi
    quoted=$(printf '%s\n' "$name" | sed "s/[\\\\']/\\\\&/g")
    workers=1
    [ "$1" = post-data ] && workers=$jobs
    pg_restore --exit-on-error --jobs="$workers" --section="$1" --dbname="dbname='$quoted'" "$dir/rest.dump" ||
        half "cannot restore the $1 of the database $name"
}

# The rows of load.txt as a script for psql; each table in a transaction, so that one that breaks off stays empty.
rows() {
    cat <<'SETTINGS'
SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;
SETTINGS
    while IFS= read -r line; do
        segment=$dir/tables/${line#??}
        case $line in
            'T COPY '*' FROM stdin;')
                line=${line#T }
                printf 'BEGIN;\n%s WITH (ENCODING '\''%s'\'');\n' "${line%;}" "$encoding"
                ;;
            'F '*) zstd -dcq --long=31 "$segment.zst" || return 1 ;;
            'P '*' '*)
                zstd -dcq --long=31 "$dir/tables/${line##* }.zst" >"$scratch/base" || return 1
                zstd -dcq --long=31 --patch-from="$scratch/base" "${segment% *}.patch.zst" || return 1
                ;;
            E) printf '\\.\nCOMMIT;\n' ;;
            *)
                echo "restore.sh: $dir/load.txt holds the line $line" >&2
                return 1
                ;;
        esac
    done <"$dir/load.txt"
}

# Figures for the planner. They are no part of what is restored: a foreign table that cannot be reached stops nothing.
analyze() {
    PGDATABASE=$name psql -X -q -o /dev/null -f - 2>"$scratch/analyze" <<'SQL'
SET statement_timeout = 0;
SELECT pg_catalog.format('ANALYZE %I.%I', n.nspname, c.relname)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm', 'p') AND NOT c.relispartition AND c.oid >= 16384 AND n.nspname !~ '^pg_'
\gexec
SQL
    ! grep -q ERROR "$scratch/analyze" ||
        say "not every table of $name has figures for the planner: $(grep -m 1 ERROR "$scratch/analyze")"
}

restore_database() {
    say "database $name"
    create_database
    section pre-data
    { rows || : >"$failed"; } | PGDATABASE=$name psql -X -q -v ON_ERROR_STOP=1 -f - >/dev/null ||
        half "cannot load the rows of the database $name"
    [ ! -e "$failed" ] || half "cannot read the rows of the database $name"
    section data
    section post-data
    analyze
}

# --- the trees ---------------------------------------------------------------------------------------------------------

# One cp a tree: names of one inode stay names of one inode.
restore_tree() {
    say "tree $1: $target"
    mkdir -p "$target" || die "cannot make $target"
    cp -a --preserve=mode,ownership,timestamps,links,xattr --sparse=auto "$source/." "$target/" ||
        die "the tree $1 could not be copied whole: see the lines above; remove $target, then start again"
}

# --- now ---------------------------------------------------------------------------------------------------------------

need awk && need sed && need find && need zstd
if [ -s "$scratch/databases" ]; then
    need psql && need pg_restore
    check_server
fi
check_targets
if [ "$check" = yes ]; then
    check_sizes
    if command -v b3sum >/dev/null 2>&1; then
        check_digests
    else
        say "b3sum is not there: sizes and zstd's checksums were checked, not the digests"
    fi
fi
if [ "$check_only" = yes ]; then
    say "the day is sound and can be restored"
    exit 0
fi
if [ -s "$scratch/databases" ]; then
    restore_globals
    while IFS= read -r each <&3; do
        database "$each"
        restore_database
    done 3<"$scratch/databases"
fi
while IFS= read -r each <&3; do
    tree "$each"
    restore_tree "$each"
done 3<"$scratch/trees"
say "done: $(wc -l <"$scratch/databases" | tr -d ' ') databases, $(wc -l <"$scratch/trees" | tr -d ' ') trees"
