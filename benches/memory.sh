#!/usr/bin/env bash
# shellcheck source=benches/lib.sh
# Peak memory of a first and a second day: with 1,000,000 files, with one table of 2 GB, with 2,000 tables, and with one value of 500 MB.
# Prints the largest resident set of daykeep and of any program it starts, in MB.
source "$(dirname "$0")/lib.sh"

files=${FILES:-1000000} megabytes=${TABLE_MB:-2048} value=${VALUE_MB:-500}

peak() { # peak REPOSITORY WHAT
    command time -f %M -o "$work/peak" "$daykeep" --config "$work/$1.toml" --quiet run "$1" >/dev/null
    echo "memory: $2: $(awk '{ printf "%.0f", $1 / 1024 }' "$work/peak") MB"
}

start_server
createdb empty
"$examples/make_tree" "$work/many" "$files" 65536
configure many empty "$work/many"
peak many "$files files, first day"
peak many "$files files, second day"
rm -rf "$work/many" "$work/vault/many"

createdb big
mkdir "$work/few"
# A row is about 290 bytes of COPY text.
psql -q -d big -c "create table big as select g as id, repeat(md5(g::text), 8) || md5((g * 7)::text) as body
    from generate_series(1, $megabytes::bigint * 1024 * 1024 / 300) g"
echo "memory: the table has $(psql -At -d big -c "select pg_size_pretty(pg_table_size('big'))")"
configure big big "$work/few"
peak big "one table of $megabytes MB, first day"
psql -q -d big -c "update big set body = reverse(body) where id % 100 = 0"
peak big "one table of $megabytes MB, second day, 1 % changed"
psql -q -c 'drop database big'

createdb tables
for first in 1 501 1001 1501; do
    psql -q -d tables -c "do \$\$ begin for n in $first..$first + 499 loop
        execute format('create table t%s (id int primary key, body text)', n);
        execute format('insert into t%s select g, md5(g::text) from generate_series(1, 100) g', n); end loop; end \$\$"
done
configure tables tables "$work/few"
peak tables "2,000 tables, first day"
peak tables "2,000 tables, second day"
psql -q -c 'drop database tables'

createdb value
psql -q -d value -c "create table v as select 1 as id, repeat(md5('v'), $value * 31250) as body"
configure value value "$work/few"
peak value "one value of $value MB, first day"
peak value "one value of $value MB, second day"
