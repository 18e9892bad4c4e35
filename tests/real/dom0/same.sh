# same.sh [GUEST]: pyxcsr saves the running guest live, and while it still stands
# suspended libxc's own xc_domain_save saves it again: both images must say the same
# of every pfn, every vcpu and every other record.
. /payload/tests/real/dom0/lib.sh
install_pyxcsr
start "${1:-pulse}"
live() {
    python3 -c "
import os, pyxcsr
fd = os.open('/tmp/ours.raw', os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
with pyxcsr.open_hypervisor('xen') as hv:
    print(pyxcsr.save(hv, $(domid), fd, live=True))"
}
needed "pyxcsr.save, live, from Python" live
step "it leaves the guest suspended" stands
needed "libxc's xc_domain_save of it, then resume" xcpeer save "$(domid)" /tmp/theirs.raw resume
step "both say the same" python3 "$real/streams.py" same /tmp/ours.raw /tmp/theirs.raw
cat /tmp/step
step "the guest goes on" goes_on
finish
