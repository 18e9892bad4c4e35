# migrate.sh [GUEST [TIMES]]: live `xl migrate` within the machine, sent by
# pyxcsr-save-helper, received by the stock one.
. /payload/tests/real/dom0/lib.sh
install_pyxcsr
start "${1:-pulse}"
migrate() {
    LIBXL_SAVE_HELPER=$helper xl migrate -s '' "$g" 'env -u LIBXL_SAVE_HELPER xl migrate-receive'
}
stock_received() { seen 'pyxcsr-save-helper --save-domain|libxl-save-helper --restore-domain' migrate; }
for n in $(seq "${2:-3}"); do
    was=$(domid)
    needed "xl migrate $n" stock_received
    step "sent by pyxcsr" grep -q 'pyxcsr-save-helper --save-domain' /tmp/seen
    step "received by the stock helper" grep -q '/libxl-save-helper --restore-domain' /tmp/seen
    step "it is another domain" [ "$(domid)" != "$was" ]
    step "the guest goes on, memory clean" goes_on
done
finish
