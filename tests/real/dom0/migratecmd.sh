# migratecmd.sh [GUEST]: `pyxcsr migrate` from dom0 to itself, unmodified xl in between and our helper at both ends: with
# and without zstd, with limits, ended on purpose and by what goes wrong. It says where the guest runs, and there it does.
. /payload/tests/real/dom0/lib.sh
install_pyxcsr
start "${1:-pulse}"
go() { # go OPTION...: what is said is in /tmp/said
    pyxcsr migrate --ssh '' "$@" -- "$g" localhost >/tmp/said 2>&1
    local status=$?
    tail -n 12 /tmp/said
    return $status
}
moved() { # moved OPTION...: to another domain, which is named
    local was; was=$(domid)
    go "$@" && [ "$(domid)" != "$was" ] && grep -aF "it runs there (id $(domid))" /tmp/said
}
stayed() { # stayed STATUS PATTERN OPTION...: it fails so, which is said, and the guest is the same domain
    local want=$1 pattern=$2 status was; shift 2; was=$(domid)
    go "$@"; status=$?
    [ $status = "$want" ] || { echo "status $status"; return 1; }
    [ "$(domid)" = "$was" ] || { echo "another domain"; return 1; }
    ! xl list | grep -- --incoming || { echo "a copy is left"; return 1; }
    grep -aiE -- "$pattern" /tmp/said || { echo "nothing like: $pattern"; return 1; }
}
runs_here() { stayed "$@" && grep -aF "it runs here (id $(domid))" /tmp/said; }
on() { cat /tmp/step; step "  the guest goes on, memory clean" goes_on; }
both() { seen 'pyxcsr-save-helper --(save|restore)-domain' "$@" && grep -q -- --save-domain /tmp/seen && grep -q -- --restore-domain /tmp/seen; }
dry() { go --dry-run --max-downtime 2s && grep -aF "xl migrate" /tmp/said; }
typed() { # what --dry-run prints, run as a command
    local was; was=$(domid); sh -c "$(grep -aF 'xl migrate' /tmp/said)" && [ "$(domid)" != "$was" ]
}
signalled() { # a save that would take long, ended by SIGTERM
    local was status i; was=$(domid)
    pyxcsr migrate --ssh '' --bandwidth 8M --progress -- "$g" localhost >/tmp/said 2>&1 &
    for i in $(seq 300); do grep -aqE 'pass [0-9]+ \(guest|progress: restoring' /tmp/said && break; sleep 0.2; done
    kill -TERM $!; wait $!; status=$?
    tail -n 12 /tmp/said
    [ $status = 143 ] && [ "$(domid)" = "$was" ] && grep -aF "it runs here (id $was)" /tmp/said
}
timed_out() { # by timeout(1), which sends SIGTERM to all of the group, xl included
    local was status; was=$(domid)
    timeout 20 pyxcsr migrate --ssh '' --bandwidth 8M -- "$g" localhost >/tmp/said 2>&1; status=$?
    tail -n 12 /tmp/said
    [ $status = 124 ] && [ "$(domid)" = "$was" ] && grep -aF "it runs here (id $was)" /tmp/said
}
dying_zstd() { # one that fails in the middle of the stream
    mkdir -p /tmp/bad; printf '#!/bin/sh\n[ "$1" != -cq ] || { head -c 9000000 >/dev/null; exit 3; }\nexec /usr/bin/zstd "$@"\n' >/tmp/bad/zstd
    chmod +x /tmp/bad/zstd
    PATH=/tmp/bad:$PATH runs_here 1 'zstd ended before its input did' --compress zstd
}

step "--dry-run" dry; cat /tmp/step
step "what it printed, typed" typed; on
step "pyxcsr at both ends" both moved; on
step "received by Xen's own helper" moved --receiver-helper stock; on
step "max_downtime 2s" moved --max-downtime 2s; on
step "zstd" moved --compress zstd; on
step "zstd -5, with max_downtime and a bandwidth" moved --compress zstd:-5 --max-downtime 2s --max-iterations 3 --bandwidth 30M; on
step "timeout 2s, at 16 MiB a second: ended" runs_here 1 'timeout' --bandwidth 16M --timeout 2s; on
step "the same with zstd" runs_here 1 'timeout' --compress zstd --bandwidth 16M --timeout 2s; on
step "SIGTERM" signalled; on
step "SIGTERM to all of its group, by timeout(1)" timed_out; on
step "no helper at the other end: seen before anything is touched" stayed 2 'there is no pyxcsr-save-helper' --receiver-helper /nowhere/helper; on
step "the same, unchecked" runs_here 4 'failed, or the connection' --no-checks --receiver-helper /nowhere/helper; on
step "a zstd that dies" dying_zstd; on
step "no such guest" refused 'there is no domain' pyxcsr migrate nobody localhost
xl pause "$g"
step "a paused guest" stayed 2 'is paused: .xl unpause'; cat /tmp/step
xl unpause "$g"
step "it goes on" goes_on
finish
