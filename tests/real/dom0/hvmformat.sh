# hvmformat.sh [GUEST]: `pyxcsr save` of a PVH or HVM guest without libxl, its device model included. What it saves with
# --format xl comes back by plain `xl restore`, devices and all; with --format libxc the devices are not in it, which is
# said before and in the report. After each failure, as after each save that is to leave it running, the guest goes on.
. /payload/tests/real/dom0/lib.sh
unset LIBXL_SAVE_HELPER
install_pyxcsr
start "${1:-pvh}"
f=/tmp/f.xl
judged() { verify-stream-v2 -f xl -i $f && pyxcsr verify $f; }
back() { xl restore $f && goes_on; }
emulated() { # an HVM guest's file has its device model's state, a PVH guest's has none
    xlwrap list $f >/tmp/list || return 1
    if [ "$g" = hvm ]; then grep -q EMULATOR_CONTEXT /tmp/list; else ! grep -q EMULATOR_CONTEXT /tmp/list; fi || { cat /tmp/list; return 1; }
}
for how in --live --no-live; do
    step "save --format xl $how, the guest goes on" pyxcsr save --format xl $how --force "$g" $f
    step "  it does, memory clean" goes_on
    step "save --format xl $how --then destroy" pyxcsr save --format xl $how --force --then destroy "$g" $f
    step "  pyxcsr verify takes it" pyxcsr verify $f
    [ "$g" = hvm ] || step "  verify-stream-v2 takes it" judged
    step "  with the device model's state, if it has one" emulated
    forget
    needed "  plain xl restore, it goes on, memory clean" back
done
bare() { pyxcsr save --live --force "$g" /tmp/f.raw 2>/tmp/said && pyxcsr verify /tmp/f.raw && verify-stream-v2 -i /tmp/f.raw; }
step "save --format libxc, live" bare
[ "$g" != hvm ] || step "  it says that the devices are not in it" grep -i 'device' /tmp/said
step "  the guest goes on, memory clean" goes_on
mkdir /tmp/small; mount -t tmpfs -o size=20m none /tmp/small
step "a full disk: refused" refused 'no space' pyxcsr save --format xl --live --force "$g" /tmp/small/f.xl
step "  nothing is left" nothing_in /tmp/small
step "  the guest goes on, memory clean" goes_on
ended() { # ended SIGNAL STATUS: in the middle of a save
    pyxcsr save --format xl --live --force "$g" /tmp/s/f.xl & local pid=$!
    written /tmp/s || { kill -KILL $pid; return 1; }
    kill -"$1" $pid; wait $pid; [ $? = "$2" ]
}
mkdir -p /tmp/s
step "SIGTERM in the middle: it ends" ended TERM 143
step "  nothing is left" nothing_in /tmp/s
step "  its writes are not tracked any more" untracked
step "  the guest goes on, memory clean" goes_on
node=/local/domain/$(domid)/pyxcsr/device-model # what QEMU was told: pyxcsr/devicemodel/noted.py
untold() { [ -z "$(xenstore-read "$node")" ]; }
step "SIGKILL in the middle: it ends" ended KILL 137
step "  its writes are tracked still" tracked
[ "$g" != hvm ] || step "  what its QEMU was told is noted" xenstore-read "$node"
step "  pyxcsr recover" pyxcsr recover "$g"; cat /tmp/step
step "  its writes are not tracked any more" untracked
step "  nothing is noted any more" untold
step "  the guest goes on, memory clean" goes_on
rm -f /tmp/s/*
step "SIGKILL in the middle again" ended KILL 137
step "  without recover: the next live save is complete" pyxcsr save --format xl --live --force "$g" $f
step "  nothing is noted any more, its writes are not tracked" eval 'untold && untracked'
step "  the guest goes on, memory clean" goes_on
step "  pyxcsr verify takes the image" pyxcsr verify $f
xl destroy "$g"; forget
needed "  plain xl restore of it, it goes on, memory clean" back
api() { # from Python, which is told nothing of the device model: the guest stays suspended
    python3 -c 'import sys, pyxcsr
hv = pyxcsr.open_hypervisor("xen")
with open("/tmp/api.raw", "wb") as out:
    print(pyxcsr.save(hv, int(sys.argv[1]), out).pages)
assert hv.domain_info(int(sys.argv[1])).suspended' "$(domid)" && pyxcsr verify /tmp/api.raw
}
resumed() { python3 -c 'import sys, pyxcsr; pyxcsr.resume(pyxcsr.open_hypervisor("xen"), int(sys.argv[1]))' "$(domid)"; }
step "saved from Python, it stays suspended" api
step "  pyxcsr.resume" resumed
step "  the guest goes on, memory clean" goes_on
if [ "$g" = hvm ]; then
    refused_while_suspended() { refused 'pyxcsr recover' env LIBXL_SAVE_HELPER="$helper" xl save "$g" /tmp/g.xl; }
    step "saved from Python again" api
    step "  pyxcsr recover" pyxcsr recover "$g"
    step "  the guest goes on, memory clean" goes_on
    step "saved from Python once more" api
    step "  xl save of a guest that is suspended is refused: libxl would not take its QEMU's state" refused_while_suspended
    step "  xl has resumed it: it goes on, memory clean" goes_on
fi
step "and it can be saved by xl afterwards" xl save "$g" /tmp/g.xl
forget
step "  and restored" sh -c 'xl restore /tmp/g.xl'
step "  the guest goes on, memory clean" goes_on
finish
