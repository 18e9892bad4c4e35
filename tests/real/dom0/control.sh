# control.sh [GUEST]: unmodified `xl migrate` and `xl save` through pyxcsr-save-helper, seen and steered from outside: `pyxcsr
# watch`, `tune` and `cancel`; a second save of the guest; clients and savers that die. After whatever was ended the guest's
# heartbeat goes on where it was, and its writes are not tracked any more.
. /payload/tests/real/dom0/lib.sh
install_pyxcsr
start "${1:-pulse}"
run=/run/pyxcsr slow=PYXCSR_BANDWIDTH=1M
seen_by_now() { # waits until the save of $was has its socket
    local until=$(($(ms) + 60000))
    while [ "$(ms)" -lt $until ]; do
        [ -S "$run/$was.sock" ] && return
        kill -0 "$xl" 2>/dev/null || break
        sleep 0.2
    done
    echo "no $run/$was.sock"; tail -n 20 /tmp/said; return 1
}
begin() { # begin VARIABLE=VALUE...: xl migrate in the background; its pid is $xl, the domain $was
    was=$(domid)
    env "$@" LIBXL_SAVE_HELPER="$helper" xl -v migrate -s '' "$g" 'env -u LIBXL_SAVE_HELPER xl migrate-receive' >/tmp/said 2>&1 &
    xl=$!
    seen_by_now
}
begin_save() { # the same with xl save, which suspends the guest first
    was=$(domid)
    env "$@" LIBXL_SAVE_HELPER="$helper" xl -v save "$g" /tmp/saved.xl >/tmp/said 2>&1 &
    xl=$!
    seen_by_now
}
said() { tr '\r' '\n' </tmp/said | grep -aE -- "$1" || { echo "nothing like: $1"; tail -n 20 /tmp/said; return 1; }; }
moved() { wait "$xl" && [ "$(domid)" != "$was" ] && nothing_in $run; }
stayed() { # stayed PATTERN: it fails, which is said, and the guest is the same domain
    ! wait "$xl" || { echo "it succeeded"; return 1; }
    [ "$(domid)" = "$was" ] || { echo "another domain"; return 1; }
    said "$1" && nothing_in $run && untracked
}
on() { step "  the guest goes on, memory clean" goes_on; }
holds() { python3 -c "
import json, sys
told = [json.loads(x) for x in open(sys.argv[1])]
first, last = told[0], told[-1]
assert $2, told" "$1"; }
status() { pyxcsr watch --once --json "$g" >/tmp/status && cat /tmp/status && holds /tmp/status "$1"; }
table() { pyxcsr watch --once >/tmp/table; cat /tmp/table; grep -q "^ *ID GUEST" /tmp/table && grep -q "^ *[0-9]* $g " /tmp/table; }
modes() { [ "$(stat -c %a:%U $run $run/*.sock $run/*.lock | tr '\n' ' ')" = "700:root 600:root 600:root " ] || { ls -laR $run; return 1; }; }
watcher() { pyxcsr watch --json "$g" >/tmp/events & watch=$!; until [ -s /tmp/events ]; do sleep 0.2; kill -0 $watch || return 1; done; }
tune() { pyxcsr tune "$g" "$@"; }
cancelled() { pyxcsr cancel "$g" >/tmp/cancel; local s=$?; cat /tmp/cancel; [ $s = 0 ] && grep -q "$g: the save was cancelled; the guest runs on" /tmp/cancel; }
none_saved() { local x; for x in watch "tune --timeout=5m" cancel; do pyxcsr $x "$g"; [ $? = 2 ] || return 1; done; }
alive() { kill -0 "$xl" || { cat /tmp/said; return 1; }; }
hostile() { python3 - "$run/$was.sock" <<'PY'
import os, socket, sys
for data in (os.urandom(3000) + b"\n", b"x" * 100000, b"[" * 4000 + b"\n", b'{"pyxcsr": 1, "do": "status"}\n' * 20):
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(sys.argv[1])
        try:
            client.sendall(data)
            client.recv(100)
        except ConnectionError:
            pass
PY
}

step "xl migrate, slowly" begin $slow PYXCSR_EVENTS=/tmp/helper.events
step "  watch --once --json" status "first['guest'] == '$g' and first['domid'] == $was and first['limits']['bandwidth'] == 1 << 20 and first['live'] and first['program'] == 'pyxcsr-save-helper'"; cat /tmp/step
step "  watch --once" table; cat /tmp/step
step "  socket and lock are root's" modes
step "  a second save is refused, naming the first one's process" refused "is being saved by process [0-9]+ .pyxcsr-save-helper." pyxcsr save "$g" /tmp/second
step "  which has not touched anything" [ ! -e /tmp/second ]
step "  and the first goes on" alive
step "  it is watched" watcher
step "  tune: a limit that makes no sense is refused" refused "no unit" pyxcsr tune "$g" --max-downtime 500
step "  tune --max-downtime 5s --bandwidth none" tune --max-downtime 5s --bandwidth none; cat /tmp/step
step "  and it is over soon" moved; said 'pyxcsr: .*domain'
step "  watch has seen its end" wait $watch
step "  with all that was to be told" holds /tmp/events "first['event'] == 'status' and last['result'] == 'done' and last['policy'] == 'adaptive' and last['max_downtime'] == 5 and any(x['event'] == 'tuned' for x in told)"
step "  and so has the file of events" holds /tmp/helper.events "first['event'] == 'begin' and last['event'] == 'end' and last['result'] == 'done' and sum(x['event'] == 'pass' for x in told) >= 2"
tail -n 1 /tmp/helper.events
on
step "xl migrate, slowly" begin $slow
step "  cancel" cancelled; cat /tmp/step
step "  xl says why, and it is the same domain" stayed 'cancelled by somebody else'
on
step "xl migrate, slowly" begin $slow
step "  tune --suspend-now, then no limit for the bandwidth" tune --suspend-now --bandwidth none
step "  and it is over" moved; said 'pyxcsr: .*domain'
on
step "xl migrate, slowly" begin $slow
step "  a client that is killed" eval 'watcher && kill -9 $watch'
step "  clients that send garbage" hostile
step "  others are answered" status "first['guest'] == '$g'"
step "  and it comes to a good end" eval 'tune --bandwidth none && moved'
on
step "xl migrate, slowly" begin $slow
step "  the helper is killed" kill -9 "$(cut -d' ' -f1 <$run/"$was".lock)"
step "  xl fails" eval '! wait $xl'
step "  what it left is swept up" eval '[ -e $run/$was.sock ] && pyxcsr watch --once && nothing_in $run'
step "  its writes are tracked still" tracked
step "  pyxcsr recover" pyxcsr recover "$g"
step "  its writes are not tracked any more" untracked
on
step "xl save, slowly" begin_save $slow PYXCSR_BANDWIDTH_WHILE_PAUSED=yes
step "  is seen while the guest is suspended" status "first['guest'] == '$g' and not first['live']"; cat /tmp/step
step "  cancel" cancelled; cat /tmp/step
step "  xl lets the guest go on" stayed 'cancelled by somebody else'
on
chmod 0777 $run
was=$(domid)
env LIBXL_SAVE_HELPER="$helper" xl -v migrate -s '' "$g" 'env -u LIBXL_SAVE_HELPER xl migrate-receive' >/tmp/said 2>&1 & xl=$!
step "a folder that others may write to: xl migrate goes on without" moved
step "  and says so" said 'can be written to by others'
chmod 0700 $run
on
step "nothing is being saved" eval '[ "$(pyxcsr watch --once)" = "nothing is being saved" ]'
step "watch, tune and cancel say so: status 2" none_saved
on
finish
