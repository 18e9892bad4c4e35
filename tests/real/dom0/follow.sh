# follow.sh [ours|stock [TIMES]]: live `xl migrate` of a guest that is ballooned down and up all along, and whose
# p2m list grows by 64 pages in the middle of it (memory hot-plug). Sent by pyxcsr-save-helper or by Xen's own
# helper, received by Xen's own. Sent by ours each one must succeed; Xen's own are counted.
. /payload/tests/real/dom0/lib.sh
install_pyxcsr
who=${1:-ours} times=${2:-3}
export PYXCSR_P2M_CHANGES=${PYXCSR_P2M_CHANGES:-follow} PYXCSR_MAX_ITERATIONS=8 PYXCSR_TARGET_DIRTY=0
[ "$who" = ours ] && export LIBXL_SAVE_HELPER=$helper || unset LIBXL_SAVE_HELPER
mkdir -p /out
generation() { xcpeer info "$1" | sed -n 's/.*p2m_generation //p'; }
written_by_helper() {
    local p; p=$(pgrep -f -- '-save-helper --save-domain' | head -n 1)
    [ -n "$p" ] && awk '/^wchar/ {print $2}' "/proc/$p/io" 2>/dev/null || echo 0
}
restless() { # ballooned between 100 and 160 MiB, until it is no more
    while xl domid pulse >/dev/null 2>&1 && [ -e /tmp/migrating ]; do
        xl mem-set pulse $((100 + RANDOM % 60)); sleep 0.2
        xl mem-set pulse 160; sleep 0.2
    done >/dev/null 2>&1
}
migrate() { # paused until the save is under way, so that it has not grown when it is first looked at
    local before=$1 pid status until=$(($(ms) + 60000))
    touch /tmp/migrating
    xl -v migrate -s '' pulse 'env -u LIBXL_SAVE_HELPER xl migrate-receive' >/tmp/migrate.log 2>&1 & pid=$!
    # until the helper has written some MiB: it has walked the p2m then, and is in its first pass
    until [ "$(written_by_helper)" -gt 8000000 ] || [ "$(ms)" -gt $until ] || ! kill -0 $pid; do sleep 0.05; done
    xl unpause pulse; restless & local storm=$!
    local moved=0
    while kill -0 $pid 2>/dev/null; do
        local now; now=$(generation "$before" 2>/dev/null)
        [ "${now:-0}" -gt "$moved" ] && moved=$now
        sleep 0.1
    done
    wait $pid; status=$?
    rm -f /tmp/migrating; wait $storm
    echo "status $status, p2m_generation up to $moved"
    echo "$moved" >/tmp/moved
    return $status
}
good=0 grown=0 refused=0
for n in $(seq "$times"); do
    start pulse
    needed "xl mem-max 512" xl mem-max pulse 512
    was=$(domid)
    needed "pause, and a target beyond its size" sh -c "xl pause pulse && xl mem-set pulse 160"
    if [ "$who" = ours ]; then
        step "$n: xl migrate, ballooned and grown meanwhile" migrate "$was" || cat /tmp/migrate.log
    else
        migrate "$was" >/tmp/step 2>&1 && say "ok   $n: xl migrate" || { say "     $n: xl migrate failed: $(grep -m 1 -i 'generation' /tmp/migrate.log)"; refused=$((refused + 1)); }
    fi
    cat /tmp/step; tr '\r' '\n' </tmp/migrate.log | grep -v ': *[0-9]*/[0-9]*' >/out/migrate-$n.log; grep -o 'domain [0-9]*: .*' /tmp/migrate.log | tail -n 1
    [ "$(cat /tmp/moved)" -ge 128 ] && grown=$((grown + 1))
    [ "$(domid)" = "$was" ] || good=$((good + 1))
    xl unpause pulse 2>/dev/null
    step "$n: the guest goes on, memory clean" goes_on
    step "$n: it still balloons" sh -c "xl mem-set pulse 120 && sleep 1 && xl mem-set pulse 150"
    step "$n: and goes on" goes_on
    xl destroy pulse; forget
done
say "$who: $good of $times migrated, $refused refused, p2m grown in $grown"
echo "{\"who\": \"$who\", \"times\": $times, \"migrated\": $good, \"refused\": $refused, \"grown\": $grown}" >/out/follow-$who.json
[ "$who" != ours ] || step "all migrated" [ "$good" -eq "$times" ]
[ "$who" != ours ] || step "the p2m grew in the middle of some" [ "$grown" -gt 0 ]
finish
