# On a hypervisor without shadow paging, as Debian's is: a live save is refused with
# the way out, a save that is not live works.
. /payload/tests/real/dom0/lib.sh
install_pyxcsr
step "no shadow paging here" sh -c '! xl info virt_caps | grep -w shadow'
start pulse
needed "its configuration" xlwrap config "$(domid)" /tmp/c.json
mkdir /tmp/s
step "pyxcsr save --live is refused, naming --no-live" refused '--no-live' pyxcsr save --live "$g" /tmp/s/f
cat /tmp/refused
step "no file left" nothing_in /tmp/s
step "the guest goes on" goes_on
step "xl migrate is refused" sh -c "! LIBXL_SAVE_HELPER=$helper xl migrate -s '' $g 'env -u LIBXL_SAVE_HELPER xl migrate-receive'"
grep -i 'log-dirty\|logdirty\|shadow' /tmp/step
step "the guest goes on" goes_on
needed "pyxcsr save --no-live --then destroy" pyxcsr save --no-live --then destroy "$g" /tmp/s/f
step "verify-stream-v2 accepts it" verify-stream-v2 -i /tmp/s/f
needed "xl restore of it" restore_raw /tmp/s/f /tmp/c.json
step "the guest goes on, memory clean" goes_on
finish
