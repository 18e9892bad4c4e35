# Sourced by the scripts here, which tests/xenlab/run starts in dom0: steps with a
# verdict each, the guest and its heartbeat, installing pyxcsr from /payload.
real=/payload/tests/real/dom0
helper=$(command -v pyxcsr-save-helper)
logs=/var/log/xen/console
fails=0 g=pulse

say() { printf '%7.2f %s\n' "$(cut -d' ' -f1 /proc/uptime)" "$*"; }
ms() { echo $(($(date +%s%N) / 1000000)); }

# step WHAT COMMAND... : one check with its time; what it printed is in /tmp/step
step() {
    local what=$1 a; shift
    a=$(ms)
    if "$@" >/tmp/step 2>&1; then say "ok   $what ($(($(ms) - a)) ms)"; return; fi
    say "FAIL $what ($(($(ms) - a)) ms): $*"; tail -n 40 /tmp/step
    fails=$((fails + 1)); return 1
}
# needed WHAT COMMAND... : a step without which the rest makes no sense
needed() { step "$@" || finish; }

# refused PATTERN COMMAND... : fails with a message like the pattern, and no Python traceback
refused() {
    local pattern=$1 status; shift
    "$@" >/tmp/refused 2>&1; status=$?
    sed 's/^/    /' /tmp/refused >&2
    [ $status -ne 0 ] || { echo "succeeded, but should have failed"; return 1; }
    [ $status -lt 124 ] || { echo "status $status"; return 1; }
    ! grep -q Traceback /tmp/refused || { echo "a traceback is no message"; return 1; }
    grep -qiE -- "$pattern" /tmp/refused || { echo "no message like: $pattern"; return 1; }
}

finish() {
    dmesg | grep -E 'segfault|general protection|BUG:' && fails=$((fails + 1))
    xl dmesg | grep -E 'Xen (BUG|WARN) at|Assertion .* failed' && fails=$((fails + 1))
    say "failures: $fails"
    exit $((fails > 0))
}

# end_together N: on machine N of two, 1 or 2: machine 1, which may have something left to serve, waits until 2 is done
end_together() {
    if [ "$1" = 2 ]; then
        echo done | xlpipe connect 10.0.0.1 8004 >/dev/null
        return
    fi
    timeout 300 xlpipe serve 8004 cat >/dev/null 2>/tmp/serve-end &
    for _ in $(seq 300); do grep -q ended /tmp/serve-end && break; sleep 0.5; done
}

# $live: how `pyxcsr save` is to save a PV guest. Without shadow paging Xen does not track its
# writes; a step that needs that is then left out, which is said, and fails where Xen has it.
live=--live
xl info virt_caps | grep -qw shadow || live=--no-live
left_out() { say "     left out: $*, because this Xen has no shadow paging"; }

# --- pyxcsr, from a wheel in the payload or from the sources there
install_pyxcsr() {
    local pip="pip install --quiet --no-index --break-system-packages --root-user-action=ignore"
    if ls /payload/*.whl >/dev/null 2>&1; then
        needed "install $(basename /payload/*.whl)" $pip /payload/*.whl
    else
        needed "build and install from the sources" \
            env PYXCSR_BACKENDS="${PYXCSR_BACKENDS:-xen}" $pip --no-build-isolation /payload
    fi
    cd /
    helper=$(command -v pyxcsr-save-helper) || { say "FAIL no pyxcsr-save-helper"; fails=1; finish; }
}

# --- the guest: its heartbeat, in all logs of its name (`xl migrate` opens another)
beats() { cat $logs/guest-"$g"*.log 2>/dev/null | tr -d '\r' | grep -a 'PULSE n=.*bad='; }
last_beat() { beats | sed 's/.*PULSE //' | sort -t= -k2 -n | tail -n 1; }
field() { last_beat | tr ' ' '\n' | sed -n "s/^$1=//p"; }
beat() { field n; }
domid() { xl domid "$g"; }
state() { xl list "$g" | awk 'NR == 2 {print $5}'; }

# about: what Xen tells of the guest's domain on its console, asked by its debug key q
about() {
    local of; of="information for domain $(domid):"
    xl dmesg -c >/dev/null; xl debug-keys q
    for _ in $(seq 50); do xl dmesg | grep -q "$of" && break; sleep 0.2; done
    sleep 0.5; xl dmesg | sed -n "/$of/,/information for domain/p"
}
# tracked, untracked: whether the guest's writes are, by Xen's own word
tracked() { about | tee /tmp/about | grep 'paging assistance:.*log_dirty' || { cat /tmp/about; return 1; }; }
untracked() {
    about >/tmp/about; [ -s /tmp/about ] || { echo "Xen says nothing of it"; return 1; }
    ! grep 'paging assistance:.*log_dirty' /tmp/about
}

# clean: not one corrupt page or wrong sum, and started once only
clean() {
    ! cat $logs/guest-"$g"*.log | grep -aE 'CORRUPT|bad=[1-9]' || return 1
    [ "$(cat $logs/guest-"$g"*.log | grep -ac 'PULSE start')" -le 1 ] || { echo "the guest started anew"; return 1; }
}
# goes_on: three more heartbeats and two more sweeps over all its memory, all vcpus, all clean. Where the log is new, as
# after `forget`, they are counted from the first one in it.
goes_on() {
    local n sweeps want until=$(($(ms) + 300000))
    want=$(sed -n 's/.*pulse.workers=\([0-9]*\).*/\1/p' "/lab/$g.cfg")
    while [ -z "$(beat)" ] && [ "$(ms)" -lt $until ]; do sleep 0.5; done
    n=$(beat) sweeps=$(field sweeps)
    while [ "$(ms)" -lt $until ]; do
        if [ "$(beat || true)" -ge $((${n:-0} + 3)) ] 2>/dev/null && [ "$(field sweeps)" -ge $((${sweeps:-0} + 2)) ] &&
            [ "$(field vcpus)" = "$want" ]; then
            clean; return
        fi
        sleep 0.5
    done
    echo "no heartbeat beyond n=${n:-none}, or sweeps stand at ${sweeps:-none}, or not ${want:-1} vcpus"
    last_beat; xl list; return 1
}
start() { # start GUEST [SETTING...]: an HVM guest, which boots for minutes, as it was saved once
    g=$1; shift
    if [ -e "/lab/$g.xl" ]; then
        needed "xl restore of /lab/$g.xl" env -u LIBXL_SAVE_HELPER xl restore "/lab/$g.xl"
    else
        needed "xl create $g" xl create "/lab/$g.cfg" "$@"
    fi
    needed "heartbeat" goes_on
}
# forget: the guest's logs so far, so that an older image of it may count from its own beat
forget() { rm -f $logs/guest-"$g"*.log; kill -HUP "$(cat /run/xen/xenconsoled.pid)"; }

# restore_raw RAW CONFIG: a raw libxc stream brought back by unmodified xl
restore_raw() {
    xlwrap wrap "$1" "$2" /tmp/wrapped.xl && env -u LIBXL_SAVE_HELPER xl restore /tmp/wrapped.xl
    local status=$?
    rm -f /tmp/wrapped.xl
    return $status
}
gone() { ! xl domid "$g"; }
nothing_in() { [ -z "$(ls -A "$1")" ] || { ls -lA "$1"; return 1; }; }

# seen PATTERN COMMAND... : runs it; the processes like the pattern meanwhile are in /tmp/seen,
# and there must be one
seen() {
    local pattern=$1 watcher status; shift
    : >/tmp/seen
    while sleep 0.3; do pgrep -af -- "$pattern" >>/tmp/seen; done &
    watcher=$!
    "$@"; status=$?
    kill $watcher; wait $watcher 2>/dev/null
    [ -s /tmp/seen ] || { echo "no process was seen like: $pattern"; return 1; }
    return $status
}
written() { # waits for a file being written in FOLDER to pass 8 MiB
    local until=$(($(ms) + 60000))
    while [ "$(ms)" -lt $until ]; do
        [ "$(du -sk --apparent-size "$1" | cut -f1)" -gt 8192 ] && return
        sleep 0.05
    done
    echo "nothing is being written"; return 1
}
# stands: the guest exists, and does not get on
stands() {
    local n; xl domid "$g" || return 1
    sleep 2; n=$(beat); sleep 3
    [ "$(beat)" = "$n" ] || { echo "it went on from $n to $(beat)"; return 1; }
}
