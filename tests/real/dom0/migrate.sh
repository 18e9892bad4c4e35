# migrate.sh [GUEST [TIMES]]: live `xl migrate` within the machine, sent by
# pyxcsr-save-helper, received by the stock one. Then one sent by Xen's own helper,
# beside which no save of ours is made: Xen has one dirty bitmap for both.
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
cat >/tmp/slowly.py <<'END'
import sys
import time

while data := sys.stdin.buffer.read1(1 << 18):
    sys.stdout.buffer.write(data)
    sys.stdout.flush()
    time.sleep(0.03)
END
stock_saves() { pgrep -f 'libxl-save-helper --save-domain'; }
beside_stock() {
    local pid status until=$(($(ms) + 60000)); was=$(domid)
    env -u LIBXL_SAVE_HELPER xl migrate -s '' "$g" 'python3 /tmp/slowly.py | env -u LIBXL_SAVE_HELPER xl migrate-receive' >/tmp/stock.log 2>&1 & pid=$!
    until stock_saves || [ "$(ms)" -gt $until ]; do sleep 0.1; done
    sleep 1
    refused "libxl-save-helper .process $(stock_saves). saves it; wait until that is over" pyxcsr save --live "$g" /tmp/beside; status=$?
    stock_saves || { echo "it was over too soon"; status=1; }
    wait $pid || { cat /tmp/stock.log; status=1; }
    return $status
}
step "a save beside xl migrate by Xen's own helper is refused" beside_stock
step "there is no file" [ ! -e /tmp/beside ]
step "the migration went well" [ "$(domid)" != "$was" ]
step "the guest goes on, memory clean" goes_on
finish
