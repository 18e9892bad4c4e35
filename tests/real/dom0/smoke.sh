# smoke.sh [GUEST]: the short proof: pyxcsr is installed in dom0, lists domains, and the PV or PVH guest
# is saved by `pyxcsr save --live`, by `xl save` and by `xl migrate`, once each.
. /payload/tests/real/dom0/lib.sh
install_pyxcsr
listed() { python3 -c "import pyxcsr; hv = pyxcsr.open_hypervisor('xen'); print(hv.domains())"; }
needed "lists domains" listed
cat /tmp/step
start "${1:-pulse}"
needed "its configuration" xlwrap config "$(domid)" /tmp/c.json

live() {
    pyxcsr save --live "$@" --json >/tmp/r.json || return 1
    [ "$g" != pulse ] || python3 "$real/report.py" live /tmp/r.json # the gfns of a PVH guest do not all have a page
}
needed "pyxcsr save --live" live "$g" /tmp/a.raw
cat /tmp/step
step "verify-stream-v2 accepts it" verify-stream-v2 -i /tmp/a.raw
step "pyxcsr verify accepts it" pyxcsr verify /tmp/a.raw
step "the guest goes on" goes_on
needed "pyxcsr save --live --then destroy" live --then destroy "$g" /tmp/b.raw
needed "xl restore of it" restore_raw /tmp/b.raw /tmp/c.json
step "the guest goes on, memory clean" goes_on

needed "xl save through pyxcsr-save-helper" env LIBXL_SAVE_HELPER="$helper" xl save "$g" /tmp/c.xl
needed "plain xl restore" xl restore /tmp/c.xl
step "the guest goes on, memory clean" goes_on
needed "xl migrate through it" env LIBXL_SAVE_HELPER="$helper" \
    xl migrate -s '' "$g" 'env -u LIBXL_SAVE_HELPER xl migrate-receive'
step "the guest goes on, memory clean" goes_on
step "xl migrate through it with a timeout: ended" refused 'longer than its timeout' env PYXCSR_BANDWIDTH=8M PYXCSR_TIMEOUT=2s \
    LIBXL_SAVE_HELPER="$helper" xl migrate -s '' "$g" 'env -u LIBXL_SAVE_HELPER xl migrate-receive'
step "its writes are not tracked any more" untracked
step "the guest goes on, memory clean" goes_on
finish
