# helper.sh [GUEST]: `xl save` with its memory stream written by pyxcsr-save-helper,
# then plain `xl restore`; also checkpointed and aborted, and aborted in a live migration.
. /payload/tests/real/dom0/lib.sh
install_pyxcsr
start "${1:-pulse}"
ours() { LIBXL_SAVE_HELPER=$helper "$@"; }
mkdir /tmp/s

needed "xl save through pyxcsr-save-helper" seen 'pyxcsr-save-helper --save-domain' \
    env LIBXL_SAVE_HELPER="$helper" xl save "$g" /tmp/s/a.xl
head -n 1 /tmp/seen
step "the guest is gone" gone
needed "its memory stream" xlwrap unwrap /tmp/s/a.xl /tmp/s/a.raw
step "verify-stream-v2 accepts it" verify-stream-v2 -i /tmp/s/a.raw
step "pyxcsr verify accepts it" pyxcsr verify /tmp/s/a.raw
needed "plain xl restore" xl restore /tmp/s/a.xl
step "the guest goes on, memory clean" goes_on

needed "xl save -c through it" ours xl save -c "$g" /tmp/s/c.xl
step "the guest goes on" goes_on
needed "xl save once more" ours xl save "$g" /tmp/s/b.xl
needed "xl restore through it" ours xl restore /tmp/s/b.xl
step "the guest goes on, memory clean" goes_on
rm -f /tmp/s/*

aborted() { # xl save to a full disk: the guest must be left running
    mount -t tmpfs -o size=16m tmpfs /tmp/s
    ! ours xl save "$g" /tmp/s/a.xl || return 1
    umount /tmp/s
}
step "xl save to a full disk fails" aborted
tail -n 12 /tmp/step
step "the guest goes on" goes_on
terminated() { # SIGTERM, libxl's way to abort, in the middle of a migration
    ours xl migrate -s '' "$g" 'env -u LIBXL_SAVE_HELPER xl migrate-receive' &
    local xl=$! i=0 pid
    while ! pid=$(pgrep -f -- 'pyxcsr-save-helper --save-domain'); do
        sleep 0.05; i=$((i + 1)); [ $i -lt 200 ] || return 1
    done
    sleep 0.7; kill -TERM $pid || return 1
    ! wait $xl
}
[ $live = --live ] || { left_out "SIGTERM in a live migration"; finish; }
step "SIGTERM to the helper makes xl migrate fail" terminated
cat /tmp/step
sleep 2
step "the guest goes on, under its own name" goes_on
needed "it can still be migrated" ours xl migrate -s '' "$g" 'env -u LIBXL_SAVE_HELPER xl migrate-receive'
step "the guest goes on, memory clean" goes_on
finish
