# restore_errors.sh: streams that are cut, tampered with or too large, and aborts: xl
# restore through pyxcsr-save-helper fails with a message, no domain and no memory is left
# behind, nothing was unpaused; PYXCSR_RESTORE=stock hands over to Xen's own helper.
. /payload/tests/real/dom0/lib.sh
install_pyxcsr
start pulse
ours() { LIBXL_SAVE_HELPER=$helper "$@"; }
theirs() { env -u LIBXL_SAVE_HELPER "$@"; }
mkdir /tmp/s; cd /tmp/s
needed "stock xl save" theirs xl save "$g" good
needed "its configuration" xlwrap config good c.json
needed "its memory stream" xlwrap unwrap good raw
free() { xl info | awk '$1 == "free_memory" {print $3}'; }
was=$(free) beats_were=$(beats | wc -l)
nothing_left() { # the domain is gone, so is its memory, and the guest never ran
    local i=0
    while [ $i -lt 20 ] && [ "$(free)" -lt $((was - 1)) ]; do sleep 0.5; i=$((i + 1)); done
    [ "$(free)" -ge $((was - 1)) ] || { echo "free $(free) MiB, was $was"; return 1; }
    [ "$(xl list | wc -l)" -eq 2 ] || { xl list; return 1; }
    [ "$(beats | wc -l)" -eq "$beats_were" ] || { echo "the guest ran"; return 1; }
    ! pgrep -f pyxcsr-save-helper
}

size=$(stat -c %s good)
for at in $((size / 10)) $((size / 2)) $((size - 3000)) $((size - 9)); do
    head -c $at good >cut
    step "cut at $at of $size" refused 'pyxcsr: error' ours xl restore cut
    grep 'pyxcsr: error' /tmp/refused
    step "  nothing left" nothing_left
done
for name in $(python3 "$real/tamper.py" good); do
    undo=$(python3 "$real/tamper.py" good $name)
    step "tampered: $name" refused 'pyxcsr: error' ours xl restore good
    grep 'pyxcsr: error' /tmp/refused
    python3 "$real/tamper.py" good undo $undo
    step "  nothing left" nothing_left
done
sed 's/"target_memkb": [0-9]*/"target_memkb": 65536/' c.json >small.json
xlwrap wrap raw small.json small.xl; rm raw
step "a domain with half the memory" refused 'pyxcsr: error' ours xl restore small.xl
grep 'pyxcsr: error' /tmp/refused
step "  nothing left" nothing_left
rm small.xl

aborted() { # aborted SIGNAL: while the stream stands still
    local xl pid status i=0; rm -f fifo; mkfifo fifo
    (exec 3>fifo; head -c $((size / 2)) good >&3; sleep 30) & local feeder=$!
    ours env --default-signal=INT xl restore fifo & xl=$!
    while ! pid=$(pgrep -f 'pyxcsr-save-helper --restore-domain'); do
        sleep 0.1; i=$((i + 1)); [ $i -lt 200 ] || return 1
    done
    sleep 4; kill "-$1" $pid; wait $xl; status=$?
    kill $feeder
    echo "status $status"; [ $status -ne 0 ] && [ $status -lt 124 ]
}
for signal in TERM INT KILL; do
    step "SIG$signal to the helper while the stream stands still" aborted $signal
    cat /tmp/step
    step "  nothing left" nothing_left
done

needed "PYXCSR_RESTORE=stock" seen '/libxl-save-helper --restore-domain' env PYXCSR_RESTORE=stock LIBXL_SAVE_HELPER="$helper" xl restore good
step "the guest goes on, memory clean" goes_on
xl destroy "$g"; forget
needed "and the good stream through pyxcsr" ours xl restore good
step "the guest goes on, memory clean" goes_on
xl destroy "$g"

start pvh
needed "stock xl save of it" theirs xl save pvh pvh.xl
was=$(free) beats_were=$(beats | wc -l)
head -c $(($(stat -c %s pvh.xl) / 2)) pvh.xl >cut
step "cut in half" refused 'pyxcsr: error' ours xl restore cut
step "  nothing left" nothing_left
needed "and whole, through pyxcsr" seen 'pyxcsr-save-helper --restore-domain' env LIBXL_SAVE_HELPER="$helper" xl restore pvh.xl
step "the guest goes on, memory clean" goes_on
xl destroy pvh
finish
