#!/usr/bin/env bash
# Every bench, one after the other. BENCH_DIR says where (default /var/tmp), ROUNDS how often.
set -euo pipefail
cd "$(dirname "$0")"
for bench in hold.sh idle.sh memory.sh restore.sh speed.sh; do
    echo "== $bench"
    ./"$bench"
done
