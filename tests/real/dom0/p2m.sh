# The guest's p2m grows: a live save under way that is not to follow this is cancelled with P2mChanged and leaves
# nothing; the grown guest can be saved and restored.
. /payload/tests/real/dom0/lib.sh
install_pyxcsr
start pulse
mkdir /tmp/s
generation() { xcpeer info "$(domid)" | sed -n 's/.*p2m_generation //p'; }
was=$(generation)
needed "raise the guest's limit" xl mem-max "$g" 512
growing() { # a save that would go on and on, and the guest's memory growing meanwhile
    pyxcsr save --live --p2m-changes abort --max-iterations 1000000 --target-dirty 0 "$g" /tmp/s/f & local pid=$! status
    written /tmp/s || return 1
    xl mem-set "$g" 200
    for _ in $(seq 1000); do kill -0 $pid 2>/dev/null || break; sleep 0.1; done
    ! kill -0 $pid 2>/dev/null || { echo "the save goes on and on"; kill $pid; }
    wait $pid; status=$?
    echo "status $status, p2m_generation $was, then $(generation)" >&2
    return $status
}
step "a live save is cancelled" refused 'p2m generation' growing
cat /tmp/refused
step "p2m_generation did move" [ "$(generation)" != "$was" ]
step "nothing left" nothing_in /tmp/s
step "the guest goes on" goes_on
# the configuration with the memory that it has now is in what xl saves
needed "xl save -c of the grown guest" xl save -c "$g" /tmp/t.xl
needed "its configuration" xlwrap config /tmp/t.xl /tmp/c.json
rm /tmp/t.xl
for how in --live --no-live; do
    needed "pyxcsr save $how of the grown guest" pyxcsr save $how --then destroy "$g" /tmp/s/f
    step "verify-stream-v2 accepts it" verify-stream-v2 -i /tmp/s/f
    step "pyxcsr verify accepts it" pyxcsr verify /tmp/s/f
    needed "xl restore of it" restore_raw /tmp/s/f /tmp/c.json
    step "the guest goes on, memory clean" goes_on
    rm /tmp/s/f
done
finish
