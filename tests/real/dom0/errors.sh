# Bad input and interruptions on real Xen: a clear message, no file that looks complete,
# and a guest that goes on, whose writes are not tracked, and that can be saved live afterwards.
. /payload/tests/real/dom0/lib.sh
install_pyxcsr
start pulse
s=/tmp/s; mkdir $s
usable() { untracked && saved_live && untracked; } # the guest goes on, and a live save of it still works
saved_live() {
    goes_on && pyxcsr save --live "$g" /tmp/again.raw && verify-stream-v2 -i /tmp/again.raw && rm /tmp/again.raw
}

step "a name that no domain has" refused nosuch pyxcsr save nosuch $s/f
step "an id that no domain has" refused 4242 pyxcsr save 4242 $s/f
step "dom0 itself" refused 'domain 0|Domain-0|dom0' pyxcsr save 0 $s/f
echo precious >$s/f
step "FILE exists" refused 'exists.*|--force' pyxcsr save "$g" $s/f
step "it is as it was" grep -qx precious $s/f
step "--force" pyxcsr save --live --force "$g" $s/f
step "that one is complete" pyxcsr verify $s/f
rm $s/f
step "not root" refused 'root|privilege|permission' setpriv --reuid=65534 --clear-groups pyxcsr save "$g" /dev/shm/f
needed "a PVH guest, not yet started" xl create -p /lab/pvh.cfg
step "it cannot suspend" refused 'paused' pyxcsr save --live --suspend-timeout 3 pvh $s/f
xl destroy pvh
step "no file left" nothing_in $s

xl pause "$g"
step "a paused guest, which cannot suspend" refused 'paused' pyxcsr save --live --suspend-timeout 3 "$g" $s/f
step "no file left" nothing_in $s
step "the same, not live" refused 'paused' pyxcsr save --no-live --suspend-timeout 3 "$g" $s/f
step "it is still paused" [ "$(state)" = --p--- ]
xl unpause "$g"
step "the guest goes on and can be saved" usable

# the guest cannot read the request, so never hears of it
node=/local/domain/$(domid)/control/shutdown
xenstore-chmod "$node" n0
for how in --live --no-live; do
    a=$(ms)
    step "a guest that does not answer, $how" refused 'within 3 s' pyxcsr save $how --suspend-timeout 3 "$g" $s/f
    cat /tmp/step
    step "that took three seconds and a little" [ $(($(ms) - a)) -gt 3000 ]
    step "no file left" nothing_in $s
    step "the request was withdrawn" [ -z "$(xenstore-read "$node")" ]
done
xenstore-chmod "$node" "n$(domid)"
step "the guest goes on and can be saved" usable

mount -t tmpfs -o size=16m tmpfs $s
step "disk full" refused 'no space' pyxcsr save --live "$g" $s/f
step "no file left" nothing_in $s
step "disk full, not live" refused 'no space' pyxcsr save --no-live "$g" $s/f
step "no file left" nothing_in $s
umount $s
step "the guest goes on and can be saved" usable
broken_pipe() { (set -o pipefail; pyxcsr save --live "$g" - | head -c 1000000 >/dev/null); }
step "closed pipe" refused 'pipe' broken_pipe
step "the guest goes on and can be saved" usable

killed() { # killed SIGNAL ARGUMENT... : a save is sent the signal in mid-pass and must fail soon
    local signal=$1 pid status a; shift
    env --default-signal=INT pyxcsr save "$@" & pid=$!
    written $s || { kill -KILL $pid; return 1; }
    kill "-$signal" $pid; a=$(ms)
    wait $pid; status=$?
    echo "SIG$signal: status $status after $(($(ms) - a)) ms"
    [ $status -ne 0 ] && [ $(($(ms) - a)) -lt 10000 ]
}
for signal in TERM INT; do
    step "SIG$signal in a live save" killed $signal --live "$g" $s/f
    cat /tmp/step
    step "no traceback" sh -c '! grep Traceback /tmp/step'
    step "no file left" nothing_in $s
    step "the guest goes on and can be saved" usable
    step "SIG$signal in a save that is not live" killed $signal --no-live "$g" $s/f
    cat /tmp/step
    step "no file left" nothing_in $s
    step "the guest goes on and can be saved" usable
done
stalled() { # stalled SIGNAL STATUS: sent while the guest is suspended and the output does not move
    local pid reader status a; rm -f /tmp/fifo; mkfifo /tmp/fifo
    (exec 3</tmp/fifo; head -c 1000000 <&3 >/dev/null; sleep 120) & reader=$!
    pyxcsr save --no-live "$g" - >/tmp/fifo & pid=$!
    for _ in $(seq 100); do case $(state) in *s*) break;; esac; sleep 0.2; done
    case $(state) in *s*) ;; *) echo "the guest is not suspended: $(state)"; kill -KILL $pid $reader; return 1;; esac
    sleep 3
    kill "-$1" $pid; a=$(ms)
    wait $pid; status=$?
    kill $reader
    echo "status $status after $(($(ms) - a)) ms"
    [ $status = "$2" ] && [ $(($(ms) - a)) -lt 10000 ]
}
step "SIGTERM while suspended with a stalled output" stalled TERM 143
cat /tmp/step
step "the guest goes on and can be saved" usable
step "SIGKILL in a live save" killed KILL --live "$g" $s/f
step "what it left does not look complete" [ ! -e $s/f ]
step "log-dirty mode was left on" tracked
step "yet the guest goes on and can be saved" saved_live
step "which ends it" untracked
recovered() { # recovered WORDS: says them, the guest goes on, and its writes are not tracked any more
    (set -o pipefail; pyxcsr recover "$g" | tee /tmp/recovered) && grep -q "$1" /tmp/recovered && ! xl dmesg | tail -n 3 | grep -i error && usable
}
step "SIGKILL in a live save" killed KILL --live "$g" $s/f
step "pyxcsr recover after it" recovered 'not suspended'; cat /tmp/step
step "SIGKILL while suspended" stalled KILL 137
step "it is suspended" stands
step "pyxcsr recover after it" recovered 'was resumed'; cat /tmp/step
step "pyxcsr recover of a guest that is well" recovered 'not suspended'
finish
