#!/usr/bin/env bash
# daykeepd under a real systemd, booted in a container of its own: installed by `make install`, held by `systemctl`, killed,
# hung, reloaded, and shut out of what its unit does not let it write. Needs root. Prints one line a step; the last is "systemd: ok".
#
# run.sh TARGET_DIR: where cargo put daykeep and daykeepd, e.g. target/debug
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
programs=$(cd "$1" && pwd)
cache=$top/target/rootfs
work=$(mktemp -d /var/tmp/daykeep-systemd.XXXXXX)
machine=dk$$
nspawn=
leader=

say() { echo "systemd: $*"; }
fail() {
    say "FAILED: $*"
    inside journalctl --no-pager -u daykeep -n 60 2>/dev/null || tail -n 40 "$work/console.log"
    exit 1
}
inside() { nsenter -t "$leader" -a "$@"; }

finish() {
    if [ -n "$nspawn" ] && kill -0 "$nspawn" 2>/dev/null; then
        kill -TERM "$nspawn"
        for _ in $(seq 100); do
            kill -0 "$nspawn" 2>/dev/null || break
            sleep 0.1
        done
        kill -KILL "$nspawn" 2>/dev/null || true
    fi
    umount "$work/root" 2>/dev/null || true
    for hierarchy in systemd unified; do
        find "/sys/fs/cgroup/$hierarchy/$machine" -depth -type d -exec rmdir {} + 2>/dev/null || true
    done
    rm -rf "$work"
}
trap finish EXIT

wait_for() { # wait_for SECONDS WHAT COMMAND...: until the command succeeds
    local left=$(($1 * 10)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        left=$((left - 1))
        [ "$left" -gt 0 ] || fail "$what"
        sleep 0.1
    done
}

# A root file system, made once and never written to: the container works on an overlay.
if [ ! -e "$cache/.complete" ]; then
    rm -rf "$cache"
    say "making a root file system (once)"
    debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,libpam-systemd,procps \
        "$(. /etc/os-release && echo "$VERSION_CODENAME")" "$cache" >"$work/debootstrap.log" 2>&1 ||
        { tail -n 5 "$work/debootstrap.log"; exit 1; }
    touch "$cache/.complete"
fi
mkdir "$work/upper" "$work/scratch" "$work/root" "$work/srv"
mount -t overlay overlay -o "lowerdir=$cache,upperdir=$work/upper,workdir=$work/scratch" "$work/root"

make -s -C "$top" install DESTDIR="$work/root" PROGRAMS="$programs" >/dev/null
say "installed by make install"

cat >"$work/root/etc/systemd/system/app.service" <<'UNIT'
[Service]
ExecStart=/bin/sh -c 'while :; do date +%%N >/srv/data/now; sleep 0.05; done'
UNIT
mkdir -p "$work/srv/data/sub" "$work/srv/vault"
for n in 1 2 3; do echo "file $n" >"$work/srv/data/sub/$n"; done
configure() { # configure PROVE_SECONDS VAULT
    cat >"$work/root/etc/daykeep/daykeep.toml" <<TOML
[repository.app]
vault = "$2"
[repository.app.hold]
max = "60s"
[repository.app.hold.$3
[repository.app.tree.data]
path = "/srv/data"
TOML
}
by_units='systemd]
units = ["app.service"]'
slowly='command]
pause = ["systemctl", "stop", "app.service"]
prove = ["sleep", "20"]
release = ["systemctl", "start", "app.service"]'
configure - /srv/vault "$by_units"
mkdir -p "$work/root/etc/systemd/system/daykeep.service.d"
cat >"$work/root/etc/systemd/system/daykeep.service.d/vault.conf" <<'UNIT'
[Service]
ReadWritePaths=/srv/vault
WatchdogSec=4
RestartSec=1
UNIT

for hierarchy in systemd unified; do
    mkdir -p "/sys/fs/cgroup/$hierarchy/$machine"
    echo $$ >"/sys/fs/cgroup/$hierarchy/$machine/cgroup.procs"
done
SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 systemd-nspawn -q -D "$work/root" --bind="$work/srv:/srv" --boot --register=no \
    --keep-unit --private-network --console=pipe --machine="$machine" </dev/null >"$work/console.log" 2>&1 &
nspawn=$!
for _ in $(seq 100); do
    leader=$(pgrep -P "$nspawn" -x systemd || true)
    [ -z "$leader" ] || break
    sleep 0.1
done
[ -n "$leader" ] || fail "the container did not start"
booted() { inside systemctl is-system-running | grep -qE 'running|degraded'; }
wait_for 60 "the container did not boot" booted
say "booted"

inside systemd-sysusers
inside systemd-tmpfiles --create
inside getent group daykeep >/dev/null || fail "sysusers made no group daykeep"
inside systemd-analyze verify /usr/lib/systemd/system/daykeep.service || fail "the unit does not verify"
inside systemctl start app.service
inside systemctl start daykeep.service || fail "the unit did not start"
inside systemctl is-active -q daykeep.service || fail "the unit is not active"
say "started: $(inside systemctl show -P StatusText daykeep.service)"
[ "$(inside stat -c '%a %G' /run/daykeep/daykeep.sock)" = "660 daykeep" ] || fail "the socket's mode or group"

days() { inside daykeep list app --json | grep -o '"name": *"[^"]*"' | wc -l; }
run_by_daemon() {
    local job
    job=$(inside daykeep run app --detach --json | grep -o '"id": *[0-9]*' | head -n 1 | tr -dc 0-9)
    inside daykeep watch "$job"
}
started=$(inside systemctl show -P ActiveEnterTimestampMonotonic app.service)
run_by_daemon || fail "a run by the daemon failed"
inside systemctl is-active -q app.service || fail "app was not started again"
[ "$started" != "$(inside systemctl show -P ActiveEnterTimestampMonotonic app.service)" ] || fail "app was never stopped"
[ "$(days)" = 1 ] || fail "no day was kept"
say "a day was kept: app stopped and started by its unit"

pid=$(inside systemctl show -P MainPID daykeep.service)
echo 'nonsense = 1' >>"$work/root/etc/daykeep/daykeep.toml"
inside systemctl reload daykeep.service || true
inside systemctl is-active -q daykeep.service || fail "a broken file took the daemon down"
configure - /srv/vault "$slowly"
inside systemctl reload daykeep.service || fail "the reload of a good file failed"
[ "$pid" = "$(inside systemctl show -P MainPID daykeep.service)" ] || fail "a reload started another process"
say "reloaded: a broken file changed nothing, a good one is in force"

# Killed inside the hold: the guard dies with the unit, and ExecStopPost releases.
inside daykeep run app --detach >/dev/null
stopped() { ! inside systemctl is-active -q app.service; }
running() { inside systemctl is-active -q app.service; }
wait_for 20 "the hold did not begin" stopped
inside kill -KILL "$pid"
wait_for 30 "app stays held after SIGKILL of the daemon" running
restarted() { inside systemctl is-active -q daykeep.service; }
wait_for 30 "the daemon was not restarted" restarted
inside daykeep status app --json | grep -q 'died' || fail "the killed job is not shown as such"
[ "$(days)" = 1 ] || fail "half a day is listed"
say "killed inside the hold: released, restarted, the job is shown failed"

# Stopped by an admin inside the hold.
inside daykeep run app --detach >/dev/null
wait_for 20 "the hold did not begin" stopped
inside systemctl stop daykeep.service
running || fail "app stays held after systemctl stop"
[ "$(inside systemctl show -P Result daykeep.service)" = success ] || fail "systemctl stop is not a success"
inside systemctl start daykeep.service
say "stopped inside the hold: released first"

# Hung: the watchdog ends it.
pid=$(inside systemctl show -P MainPID daykeep.service)
inside kill -STOP "$pid"
other() {
    local now
    now=$(inside systemctl show -P MainPID daykeep.service)
    [ "$now" != 0 ] && [ "$now" != "$pid" ] && restarted
}
wait_for 40 "the watchdog did not restart a hung daemon" other
say "hung: restarted by the watchdog"

# Shut out of what the unit does not name.
mkdir -p "$work/srv/elsewhere"
configure - /srv/elsewhere "$by_units"
inside systemctl reload daykeep.service
if run_by_daemon >"$work/out" 2>&1; then fail "wrote outside ReadWritePaths"; fi
grep -qi 'read-only' "$work/out" || { cat "$work/out"; fail "the error does not say why"; }
running || fail "app stays held after a failed run"
say "a vault that the unit does not name is refused: $(grep -i -m1 'read-only' "$work/out")"

inside systemd-analyze security --no-pager daykeep.service | tail -n 1
say "ok"
