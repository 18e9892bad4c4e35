# throttle.sh [GUEST]: a guest's cap is lowered step by step and given back; after a SIGKILL by `pyxcsr recover`. What
# `xl sched-credit2` says of the cap is the judge, and the guest goes on each time.
. /payload/tests/real/dom0/lib.sh
unset LIBXL_SAVE_HELPER
install_pyxcsr
start "${1:-pulse}"
cap() { xl sched-credit2 -d "$g" | awk 'END {print $NF}'; }
has() { [ "$(cap)" = "$1" ] || { echo "the cap is $(cap), not $1"; xl sched-credit2 -d "$g"; return 1; }; }
throttled() { # throttled STEPS END: END release, or kill
    python3 - "$(domid)" "$@" <<'PY'
import os, sys
import pyxcsr
from pyxcsr.transfer.throttle import Throttle
domid, steps, end = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
with pyxcsr.open_hypervisor("xen") as hv, Throttle(hv, domid) as throttle:
    throttle.check()
    for _ in range(steps):
        print(throttle.tighten(), os.popen(f"xl sched-credit2 -d {domid}").read(), flush=True)
    if end == "kill":
        os.kill(os.getpid(), 9)
PY
}
killed() { throttled "$1" kill; [ $? = 137 ]; }
vcpus=$(xl list "$g" | awk 'NR == 2 {print $4}')
step "two steps, and given back" throttled 2 release
step "  no cap" has 0
step "killed after two steps" killed 2
step "  the cap is 70 % of its vcpus" has $((70 * vcpus))
step "  pyxcsr recover" pyxcsr recover "$g"
step "  no cap" has 0
step "a cap of its own" xl sched-credit2 -d "$g" -c 50
step "  killed after one step" killed 1
step "  80 % of that" has 40
step "  pyxcsr recover" pyxcsr recover "$g"
step "  as before" has 50
step "  killed, and somebody sets another cap" killed 1
step "  somebody does" xl sched-credit2 -d "$g" -c 33
others() { pyxcsr recover "$g"; [ $? = 1 ] && has 33; }
step "  pyxcsr recover leaves it, and says so" others
step "no cap again" xl sched-credit2 -d "$g" -c 0
# An unmodified xl migrate, at 3 MiB a second and with a pause that cannot be had: the guest is throttled.
migrate() { # migrate VARIABLE=VALUE...: caps seen meanwhile are in /tmp/caps
    (while sleep 1; do cap 2>/dev/null; done) >/tmp/caps & local watcher=$! status
    env PYXCSR_THROTTLE=yes PYXCSR_MAX_DOWNTIME=1ms PYXCSR_BANDWIDTH=3M "$@" LIBXL_SAVE_HELPER="$helper" \
        xl -v migrate -s '' "$g" 'env -u LIBXL_SAVE_HELPER xl migrate-receive' >/tmp/said.raw 2>&1; status=$?
    kill $watcher
    tr '\r' '\n' </tmp/said.raw | grep -avE ': *[0-9]+/[0-9]+' | tail -n 5
    echo "caps: $(uniq /tmp/caps | tr '\n' ' ')"
    awk -v all=$((100 * vcpus)) '$1 > 0 && $1 < all {low = 1} END {exit !low}' /tmp/caps || { echo "no cap was lowered"; return 9; }
    return $status
}
ended() { # it fails, though a cap was lowered, because of the timeout; the guest is the same domain
    local was status; was=$(domid)
    migrate "$@"; status=$?
    [ $status != 0 ] && [ $status != 9 ] && [ "$(domid)" = "$was" ] && grep -a 'longer than its timeout' /tmp/said.raw && untracked
}
step "xl migrate, throttled, ended by its timeout" ended PYXCSR_TIMEOUT=180s; cat /tmp/step
step "  no cap" has 0
step "  the guest goes on, memory clean" goes_on
step "xl migrate, throttled, suspended at its timeout" migrate PYXCSR_TIMEOUT=180s PYXCSR_ON_TIMEOUT=suspend; cat /tmp/step
step "  no cap" has 0
step "  the guest goes on, memory clean" goes_on
finish
