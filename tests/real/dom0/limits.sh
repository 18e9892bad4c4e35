# limits.sh [GUEST]: unmodified `xl migrate` through pyxcsr-save-helper, with limits in its environment and in a settings
# file: each is kept, or what was asked for happens instead, and is said. After a migration that was ended the guest's
# heartbeat goes on where it was, and its writes are not tracked any more.
. /payload/tests/real/dom0/lib.sh
install_pyxcsr
start "${1:-pulse}"
migrate() { # migrate VARIABLE=VALUE...: what xl says is in /tmp/said
    env "$@" LIBXL_SAVE_HELPER="$helper" xl -v migrate -s '' "$g" 'env -u LIBXL_SAVE_HELPER xl migrate-receive' >/tmp/said.raw 2>&1
    local status=$?
    tr '\r' '\n' </tmp/said.raw | grep -avE ': *[0-9]+/[0-9]+' >/tmp/said
    grep -a 'pyxcsr\|dirty\|pause' /tmp/said | tail -n 5
    return $status
}
moved() { local was; was=$(domid); migrate "$@" && [ "$(domid)" != "$was" ]; }
stayed() { # stayed PATTERN VARIABLE=VALUE...: it fails, which is said, and the guest is the same domain
    local pattern=$1 was; shift; was=$(domid)
    ! migrate "$@" || { echo "it succeeded"; return 1; }
    [ "$(domid)" = "$was" ] || { echo "another domain"; return 1; }
    said "$pattern" && untracked
}
said() { grep -aiE -- "$1" /tmp/said || { echo "nothing like: $1"; tail -n 20 /tmp/said; return 1; }; }
but() { local pattern=$1; shift; moved "$@" && said "$pattern"; } # it succeeds, and says so
on() { step "  the guest goes on, memory clean" goes_on; }

a=$(ms)
step "no limit" moved PYXCSR_BACKEND=xen; free=$(($(ms) - a)); cat /tmp/step; on
step "max_downtime 2s" moved PYXCSR_MAX_DOWNTIME=2s; cat /tmp/step; on
step "max_downtime 1ms: it cannot be kept" but 'max_downtime of 1 ms was not kept' PYXCSR_MAX_DOWNTIME=1ms PYXCSR_MAX_ITERATIONS=4; cat /tmp/step; on
step "policy adaptive" moved PYXCSR_POLICY=adaptive; cat /tmp/step; on
a=$(ms)
step "bandwidth 8M" moved PYXCSR_BANDWIDTH=8M; held=$(($(ms) - a)); cat /tmp/step; on
step "  which takes its time: $held instead of $free ms" [ $((held - free)) -gt 5000 ]
step "timeout 2s, at 16 MiB a second: ended" stayed 'longer than its timeout' PYXCSR_BANDWIDTH=16M PYXCSR_TIMEOUT=2s; cat /tmp/step; on
step "timeout 4s, then suspend" but 'because of timeout .4 s were over' PYXCSR_MAX_DOWNTIME=1ms PYXCSR_BANDWIDTH=16M PYXCSR_TIMEOUT=4s PYXCSR_ON_TIMEOUT=suspend; cat /tmp/step; on
step "abort_if_busy, at 3 MiB a second: ended" stayed 'as fast as' PYXCSR_BANDWIDTH=3M PYXCSR_ABORT_IF_BUSY=yes PYXCSR_MAX_DOWNTIME=100ms; cat /tmp/step; on
printf '[guests]\nbandwidth = 16M\n[guest %s]\ntimeout = 2s\n' "$g" >/tmp/pyxcsr.conf
step "a settings file, by the guest's name: ended" stayed 'longer than its timeout' PYXCSR_CONFIG=/tmp/pyxcsr.conf; cat /tmp/step; on
printf '[guests]\nbandwidth = fast\n' >/tmp/pyxcsr.conf
step "a settings file that is wrong" stayed 'pyxcsr.conf, line 2' PYXCSR_CONFIG=/tmp/pyxcsr.conf; on
finish
