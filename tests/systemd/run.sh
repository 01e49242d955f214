#!/usr/bin/env bash
# daykeepd under a real systemd, booted in a container of its own: installed by `make install`, held by `systemctl`, killed,
# hung, reloaded, and shut out of what its unit does not let it write. Prints one line a step; the last is "systemd: ok".
#
# run.sh TARGET_DIR: where cargo put daykeep and daykeepd, e.g. target/debug
#
# Ends with 77 where no container can be booted: not root, or root without the right to mount and to make cgroups.
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
programs=$(cd "$1" && pwd)
cache=$top/target/rootfs
machine=dk$$
unset NOTIFY_SOCKET DAYKEEP_CONFIG DAYKEEP_LOG

say() { echo "systemd: $*"; }
cannot() {
    say "skipped: $*"
    exit 77
}
[ "$(id -u)" = 0 ] || cannot "not root, and a container boots as root only"
unshare --mount true 2>/dev/null || cannot "this root may not mount (a container without CAP_SYS_ADMIN?)"
# The container gets a group in each hierarchy that systemd uses: one of cgroup v2, or two beside the controllers of v1.
hierarchies=()
for hierarchy in /sys/fs/cgroup/systemd /sys/fs/cgroup/unified; do
    [ ! -e "$hierarchy/cgroup.procs" ] || hierarchies+=("$hierarchy")
done
[ ${#hierarchies[@]} -gt 0 ] || hierarchies=(/sys/fs/cgroup)
for hierarchy in "${hierarchies[@]}"; do
    mkdir "$hierarchy/$machine" 2>/dev/null || cannot "$hierarchy cannot be written"
    rmdir "$hierarchy/$machine"
done
for tool in systemd-nspawn debootstrap nsenter pgrep jq; do
    command -v "$tool" >/dev/null || { say "FAILED: there is no $tool: setup/tools.sh installs it"; exit 1; }
done

work=$(mktemp -d /var/tmp/daykeep-systemd.XXXXXX)
nspawn=
leader=

inside() { nsenter -t "$leader" -a "$@"; }
fail() {
    say "FAILED: $*"
    { [ -n "$leader" ] && inside journalctl --no-pager -u daykeep -n 60; } 2>/dev/null ||
        tail -n 40 "$work/console.log"
    exit 1
}

finish() {
    if [ -n "$nspawn" ] && kill -0 "$nspawn" 2>/dev/null; then
        kill -TERM "$nspawn"
        for _ in $(seq 100); do
            kill -0 "$nspawn" 2>/dev/null || break
            sleep 0.1
        done
        kill -KILL "$nspawn" 2>/dev/null || true
        wait "$nspawn" 2>/dev/null || true
    fi
    umount "$work/root" 2>/dev/null || true
    for hierarchy in "${hierarchies[@]}"; do
        find "$hierarchy/$machine" -depth -type d -exec rmdir {} \; 2>/dev/null || true
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
mkdir -p "$top/target"
exec 9>"$cache.lock"
flock 9
if [ ! -e "$cache/.complete" ]; then
    rm -rf "$cache"
    say "making a root file system (once)"
    suite=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
    debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,libpam-systemd,procps "$suite" "$cache" >"$work/debootstrap.log" 2>&1 ||
        { tail -n 5 "$work/debootstrap.log"; fail "debootstrap"; }
    touch "$cache/.complete"
fi
flock -u 9
mkdir "$work/upper" "$work/scratch" "$work/root" "$work/srv"
mount -t overlay overlay -o "lowerdir=$cache,upperdir=$work/upper,workdir=$work/scratch" "$work/root"

make -s -C "$top" install DESTDIR="$work/root" PROGRAMS="$programs" >/dev/null 2>"$work/install.log" ||
    { cat "$work/install.log"; fail "make install"; }
say "installed by make install"

cat >"$work/root/etc/systemd/system/app.service" <<'UNIT'
[Service]
ExecStart=/bin/sh -c 'while :; do date +%%N >/srv/data/now; sleep 0.05; done'
[Install]
WantedBy=multi-user.target
UNIT
mkdir -p "$work/srv/data/sub" "$work/srv/vault"
# A device node to be kept: it may be made by the unit, and opened by nobody in it.
mknod "$work/srv/data/sub/device" c 1 11
for n in 1 2 3; do echo "file $n" >"$work/srv/data/sub/$n"; done
configure() { # configure VAULT HOLD: the rest of the name of the hold's table, and the table
    cat >"$work/root/etc/daykeep/daykeep.toml" <<TOML
[repository.app]
vault = "$1"
[repository.app.hold]
max = "60s"
[repository.app.hold.$2
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
configure /srv/vault "$by_units"
mkdir -p "$work/root/etc/systemd/system/daykeep.service.d"
cat >"$work/root/etc/systemd/system/daykeep.service.d/vault.conf" <<'UNIT'
[Service]
ReadWritePaths=/srv/vault
WatchdogSec=4
RestartSec=1
UNIT

booted() { inside systemctl is-system-running | grep -qE 'running|degraded'; }
boot() {
    # In a subshell, so that this script stays where it was. nspawn's own filter knows no fanotify, which the unit allows.
    (
        for hierarchy in "${hierarchies[@]}"; do
            mkdir -p "$hierarchy/$machine"
            echo "$BASHPID" >"$hierarchy/$machine/cgroup.procs"
        done
        SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 exec systemd-nspawn -q -D "$work/root" --bind="$work/srv:/srv" --boot \
            --register=no --keep-unit --private-network --console=pipe --machine="$machine" \
            --system-call-filter="fanotify_init fanotify_mark open_by_handle_at" 9>&-
    ) </dev/null >"$work/console.log" 2>&1 &
    nspawn=$!
    leader=
    for _ in $(seq 100); do
        leader=$(pgrep -P "$nspawn" -x systemd || true)
        [ -z "$leader" ] || break
        sleep 0.1
    done
    [ -n "$leader" ] || fail "the container did not start"
    wait_for 60 "the container did not boot" booted
    say "booted"
}
boot

property() { inside systemctl show -P "$1" "${2:-daykeep.service}"; }
inside systemd-sysusers
inside systemd-tmpfiles --create
inside getent group daykeep >/dev/null || fail "sysusers made no group daykeep"
inside systemd-analyze verify --man=no /usr/lib/systemd/system/daykeep.service || fail "the unit does not verify"
inside test -s /usr/share/man/man1/daykeep.1 || fail "the manual that the unit names is not installed"
inside systemctl start app.service
inside systemctl start daykeep.service || fail "the unit did not start"
inside systemctl is-active -q daykeep.service || fail "the unit is not active"
say "started: $(property StatusText)"
[ "$(inside stat -c '%a %G' /run/daykeep/daykeep.sock)" = "660 daykeep" ] || fail "the socket's mode or group"
[ "$(inside stat -c '%a %U' /var/lib/daykeep)" = "700 root" ] || fail "the state directory's mode or owner"

days() { inside daykeep list app --json | jq '.repositories[0].days | length'; }
detach() { inside daykeep run app --detach --json | jq .job.id; }
run_by_daemon() { inside daykeep watch "$(detach)"; }
journal() { inside journalctl --no-pager -o cat -u daykeep "$@"; }
started=$(property ActiveEnterTimestampMonotonic app.service)
run_by_daemon >"$work/out" 2>&1 || { cat "$work/out"; fail "a run by the daemon failed"; }
inside systemctl is-active -q app.service || fail "app was not started again"
[ "$started" != "$(property ActiveEnterTimestampMonotonic app.service)" ] || fail "app was never stopped"
[ "$(days)" = 1 ] || fail "no day was kept"
kept=$(inside find /srv/vault/app/current/trees/data/sub/device -printf '%y') || fail "the device node was not kept"
[ "$kept" = c ] || fail "the device node was kept as something else: $kept"
! grep -q 'Operation not permitted' "$work/out" || { cat "$work/out"; fail "the sandbox refuses what a run needs"; }
say "a day was kept: app stopped and started by its unit"

inside journalctl --flush --sync
journal | grep -q '^app: kept ' || fail "the journal does not tell of the day"
[ "$(journal -o json | jq -rs 'map(select(.MESSAGE | startswith("app: kept "))) | .[0].F_REPOSITORY')" = app ] ||
    fail "the journal's entry does not name the repository in a field"
say "journal: $(journal | grep '^app: kept ')"

pid=$(property MainPID)
echo 'nonsense = 1' >>"$work/root/etc/daykeep/daykeep.toml"
inside systemctl reload daykeep.service || true
inside systemctl is-active -q daykeep.service || fail "a broken file took the daemon down"
refused() { property StatusText | grep -q 'refused.*nonsense'; }
wait_for 10 "the status does not tell of the broken file" refused
configure /srv/vault "$slowly"
inside systemctl reload daykeep.service || fail "the reload of a good file failed"
[ "$pid" = "$(property MainPID)" ] || fail "a reload started another process"
say "reloaded: a broken file changed nothing, a good one is in force"

stopped() { ! inside systemctl is-active -q app.service; }
running() { inside systemctl is-active -q app.service; }
restarted() { inside systemctl is-active -q daykeep.service; }
holding() { property StatusText | grep -q '^app: hold'; }
guards() { inside pgrep -f '^[^ ]*daykeep guard '; }

# Killed inside the hold, and the guard cannot act: it is stopped, and dies with the unit. ExecStopPost releases.
job=$(detach)
wait_for 20 "the hold did not begin" stopped
wait_for 10 "the status line does not tell of the hold" holding
say "status: $(inside systemctl status daykeep.service | grep 'Status:' | sed 's/^ *//')"
guard=$(guards) || fail "the hold has no guard"
inside kill -STOP "$guard"
inside kill -KILL "$pid"
wait_for 30 "app stays held after SIGKILL of the daemon" running
wait_for 30 "the daemon was not restarted" restarted
! inside kill -0 "$guard" 2>/dev/null || fail "the guard outlived its unit"
inside daykeep status app --json | jq -e --argjson job "$job" '.repositories[0].last_attempt
    | .id == $job and .state == "failed" and (.error | contains("died during hold"))' >/dev/null ||
    fail "the killed job is not shown as such"
[ "$(days)" = 1 ] || fail "half a day is listed"
say "killed inside the hold: released by ExecStopPost, restarted, the job is shown failed"

# Stopped by an admin inside the hold.
detach >/dev/null
wait_for 20 "the hold did not begin" stopped
inside systemctl stop daykeep.service
running || fail "app stays held after systemctl stop"
[ "$(property Result)" = success ] || fail "systemctl stop is not a success"
inside systemctl start daykeep.service
say "stopped inside the hold: released first"

# Hung: the watchdog ends it.
pid=$(property MainPID)
inside kill -STOP "$pid"
other() {
    local now
    now=$(property MainPID)
    [ "$now" != 0 ] && [ "$now" != "$pid" ] && restarted
}
wait_for 40 "the watchdog did not restart a hung daemon" other
journal | grep -q "Failed with result 'watchdog'" || fail "something else than the watchdog ended it"
say "hung: restarted by the watchdog"

# Shut out of what the unit does not name.
mkdir -p "$work/srv/elsewhere"
configure /srv/elsewhere "$by_units"
inside systemctl reload daykeep.service
if run_by_daemon >"$work/out" 2>&1; then fail "wrote outside ReadWritePaths"; fi
grep -q '/srv/elsewhere.*ReadWritePaths' "$work/out" || { cat "$work/out"; fail "the error does not say why"; }
running || fail "app stays held after a failed run"
say "a vault that the unit does not name is refused: $(grep -m1 ReadWritePaths "$work/out")"

# The power goes in the switch of a restore, and the scheduler is started at boot: what docs/holds.md advises keeps it down.
configure /srv/vault "$by_units"
inside systemctl reload daykeep.service
mkdir -p "$work/root/etc/systemd/system/app.service.d" "$work/srv/data/many"
sed -n '/^...ini$/,/^...$/{//!p}' "$top/docs/holds.md" | sed 's/fossology/app/' >"$work/root/etc/systemd/system/app.service.d/daykeep.conf"
grep -q '^ExecCondition=.*/app/hold.json' "$work/root/etc/systemd/system/app.service.d/daykeep.conf" || fail "the advice is not where it was"
inside systemctl daemon-reload
inside systemctl enable -q app.service daykeep.service
for n in $(seq 5000); do echo "of the day" >"$work/srv/data/many/$n"; done
run_by_daemon >"$work/out" 2>&1 || { cat "$work/out"; fail "a run beside the drop-in failed"; }
running || fail "the drop-in keeps app from being started by the release"
day=$(inside daykeep list app --json | jq -r '.repositories[0].days[0].name')
for n in $(seq 5000); do echo "newer" >"$work/srv/data/many/$n"; done
kept() { grep -qs '^  "keep":' "$work/root/var/lib/daykeep/app/hold.json"; }
inside daykeep restore app "$day" --yes >"$work/out" 2>&1 &
restore=$!
until kept; do kill -0 "$restore" 2>/dev/null || { cat "$work/out"; fail "the restore ended before its switch was seen"; }; done
kill -KILL "$leader"
wait "$restore" 2>/dev/null || true
wait "$nspawn" 2>/dev/null || true
kept || fail "the power did not go in the switch"
boot
wait_for 30 "the daemon did not start" restarted
! running || fail "app was started at boot on half a repository"
inside systemctl start app.service || fail "a start that is forbidden is a failure"
! running || fail "app was started by hand on half a repository"
inside daykeep status app --json | jq -e '.repositories[0].kept_hold.reason' >/dev/null || fail "the status does not tell of the kept hold"
[ "$(sort -u "$work"/srv/data/many/* | tr '\n' ' ')" = "newer of the day " ] || say "the switch had not begun, or was through"
inside daykeep restore app "$day" --yes >"$work/out" 2>&1 || { cat "$work/out"; fail "the restore does not go on after the power cut"; }
running || fail "app was not started at the end of the restore"
[ "$(sort -u "$work"/srv/data/many/*)" = "of the day" ] || fail "the day is not in its place"
say "the power went in the switch of a restore: app stayed down at boot, and ran when the restore had gone on"

# And what it warns of: the adapter notices a start that systemd skips.
inside daykeep restore app --confirm --yes >"$work/out" 2>&1 || { cat "$work/out"; fail "the restore cannot be confirmed"; }
printf '[Unit]\nConditionPathExists=!/var/lib/daykeep/app/hold.json\n' >"$work/root/etc/systemd/system/app.service.d/daykeep.conf"
inside systemctl daemon-reload
if run_by_daemon >"$work/out" 2>&1; then fail "a release that started nothing passed for one"; fi
grep -q 'a condition of the unit forbids it' "$work/out" || { cat "$work/out"; fail "the error does not tell of the condition"; }
printf '[Unit]\nAfter=daykeep.service\n' >"$work/root/etc/systemd/system/app.service.d/daykeep.conf"
inside systemctl daemon-reload
inside daykeep config check >"$work/out" 2>&1 || true
grep -q 'app.service is started after daykeep.service' "$work/out" || { cat "$work/out"; fail "the check does not tell of the order"; }
rm "$work/root/etc/systemd/system/app.service.d/daykeep.conf"
inside systemctl daemon-reload
wait_for 30 "the guard does not release when the condition is gone" running
say "a condition that would forbid daykeep's own start is told, and released as soon as it is gone"

# What stays open is argued in docs/threats.md, line by line: more than that is a mistake.
inside systemd-analyze security --no-pager --threshold=40 daykeep.service >"$work/out" || { cat "$work/out"; fail "the unit is more open than it was"; }
tail -n 1 "$work/out" | sed 's/^[^O]*//'
say "ok"
