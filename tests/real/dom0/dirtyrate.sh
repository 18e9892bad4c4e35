# dirtyrate.sh [GUEST]: `pyxcsr dirty-rate` of a running guest agrees with the guest's own count of the pages that it
# writes; a second one is refused; signals end it with log-dirty mode off, and after a SIGKILL `pyxcsr recover` does that.
# A migration that begins meanwhile goes first, and the guest arrives whole.
. /payload/tests/real/dom0/lib.sh
unset LIBXL_SAVE_HELPER
install_pyxcsr
start "${1:-pulse}"
mkdir -p /out
over=; [ "$g" != hvm ] || over=--take-over # QEMU tracks its display
near() { # near SECONDS: 15 % at most from what the guest counts
    local a b
    a=$(last_beat)
    pyxcsr dirty-rate $over --seconds "$1" --json --bandwidth 100M --max-downtime 300ms "$g" >/out/rate.json || return 1
    b=$(last_beat)
    python3 - "$a" "$b" <<'PY'
import json, sys
first, last = ({k: int(v) for k, v in (x.split("=") for x in line.split() if "=" in x)} for line in sys.argv[1:])
wrote = 1000 * (last["wrote"] - first["wrote"]) / (last["ms"] - first["ms"])
found = json.load(open("/out/rate.json"))
print(f"the guest wrote {wrote:.0f} pages a second; measured {found['pages_per_second']:.0f}")
for row in found["windows"]:
    print(f"  {row['seconds']:8.3f} s {row['pages']:9.1f} pages {row['pages_per_second']:8.0f} a second")
print(found["predictions"])
sys.exit(not 0.85 <= found["pages_per_second"] / wrote <= 1.15)
PY
}
step "measured for 20 s: within 15 % of what the guest says" near 20
cat /tmp/step
step "  the guest goes on, memory clean" goes_on
at_work() { # at_work SIGNAL STATUS: a measurement in the middle gets it; meanwhile a second one is refused
    env --default-signal=INT pyxcsr dirty-rate $over --seconds 120 "$g" >/tmp/first 2>&1 & local pid=$! status # else & ignores it
    sleep 15
    refused 'tracked already' pyxcsr dirty-rate --seconds 1 "$g" || { kill $pid; return 1; }
    kill -"$1" $pid; wait $pid; status=$?
    [ $status = "$2" ] || { echo "status $status"; cat /tmp/first; return 1; }
}
for number in TERM INT; do
    step "SIG$number in the middle; a second measurement is refused" at_work $number $((128 + $(kill -l $number)))
    step "  log-dirty mode is off" pyxcsr dirty-rate $over --seconds 1 "$g"
done
step "SIGKILL in the middle" at_work KILL 137
[ "$g" = hvm ] || step "  log-dirty mode is on" refused 'tracked already' pyxcsr dirty-rate --seconds 1 "$g"
step "  pyxcsr recover" pyxcsr recover "$g"
step "  log-dirty mode is off" pyxcsr dirty-rate $over --seconds 1 "$g"
step "  the guest goes on, memory clean" goes_on
# What Xen answers while log-dirty mode is off: a bitmap without a bit, and no error. The guard is built on that.
while_off() {
    python3 - "$(domid)" <<'PY'
import errno, sys, time
import pyxcsr
domid = int(sys.argv[1])
with pyxcsr.open_hypervisor("xen") as hv:
    hv.logdirty_off(domid)
    meter = hv.new_meter(domid, hv.nr_gpfns(domid))
    print("peek while it is off:", meter.peek())
    assert meter.peek() == 0
    try:
        meter.fetch()
    except pyxcsr.HypervisorError as error:
        print(error)
        assert error.errno == errno.ENODATA
    else:
        raise SystemExit("not noticed")
    hv.logdirty_off(domid)
    meter.begin()
    time.sleep(3)
    first, second, cleared = meter.peek(), meter.peek(), meter.fetch()
    print("written in 3 s:", first, second, cleared)
    assert 0 < first <= second <= cleared
    meter.close()
PY
}
[ "$g" = hvm ] || step "log-dirty mode that is off is noticed" while_off
cat /tmp/step
step "  the guest goes on, memory clean" goes_on
beside() { # beside [VARIABLE=VALUE]: xl migrate begins while it is measured
    local was pid status; was=$(domid)
    pyxcsr dirty-rate $over --seconds 900 --json "$g" >/tmp/beside.json 2>/tmp/beside & pid=$!
    sleep 20
    env -u LIBXL_SAVE_HELPER "$@" xl migrate -s '' "$g" 'env -u LIBXL_SAVE_HELPER xl migrate-receive' >/tmp/said 2>&1; status=$?
    wait $pid || { cat /tmp/beside.json /tmp/beside; return 1; }
    grep ended_by /tmp/beside.json
    grep -q 'saves the domain' /tmp/beside.json || { echo "it was not noticed"; return 1; }
    # The one loud way out: it began in the same instant. Then the guest has stayed, and has to go on.
    if grep -q 'made to fail' /tmp/beside.json; then [ $status != 0 ] && [ "$(domid)" = "$was" ]; return; fi
    [ $status = 0 ] && [ "$(domid)" != "$was" ] || { tail -n 20 /tmp/said; return 1; }
}
step "xl migrate while it is measured: goes first" beside; cat /tmp/step
step "  the guest goes on, memory clean" goes_on
step "the same with pyxcsr-save-helper" beside LIBXL_SAVE_HELPER="$helper"; cat /tmp/step
step "  the guest goes on, memory clean" goes_on
step "  log-dirty mode is off" pyxcsr dirty-rate $over --seconds 1 "$g"
saved() { pyxcsr save --live --force "$g" /tmp/r.raw && pyxcsr verify /tmp/r.raw; }
step "a live save afterwards" saved
step "  the guest goes on, memory clean" goes_on
finish
