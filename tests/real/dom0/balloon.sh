# balloon.sh [GUEST [ours|stock [TIMES]]]: live `xl migrate` of an HVM or PVH guest that is ballooned down and up all
# along, and that uses and checks the pages which the balloon brings at once. Sent by pyxcsr-save-helper or by Xen's
# own helper, received by Xen's own. Sent by ours each one must succeed, with memory clean; Xen's own are counted.
. /payload/tests/real/dom0/lib.sh
install_pyxcsr
guest=${1:-pvh} who=${2:-ours} times=${3:-3}
export PYXCSR_MAX_ITERATIONS=8 PYXCSR_TARGET_DIRTY=0
[ "$who" = ours ] && export LIBXL_SAVE_HELPER=$helper || unset LIBXL_SAVE_HELPER
mkdir -p /out
churning() { # an HVM guest, which is not created anew, does so by itself once it is ballooned
    sed -n 's/^extra = "\(.*\)"$/extra = "\1 pulse.churn=1"/p' "/lab/$guest.cfg"
}
# churns: three more times the guest has taken, filled and checked pages, among them those that the balloon brought
churns() {
    local n until=$(($(ms) + 60000)); n=$(field churned)
    while [ "$(ms)" -lt $until ]; do
        [ "$(field churned)" -ge $((n + 3)) ] 2>/dev/null && return
        sleep 0.5
    done
    echo "stands at ${n:-none}"; last_beat; return 1
}
written_by_helper() {
    local p; p=$(pgrep -f -- '-save-helper --save-domain' | head -n 1)
    [ -n "$p" ] && awk '/^wchar/ {print $2}' "/proc/$p/io" 2>/dev/null || echo 0
}
restless() { # between 104 and 127 MiB, until there is nothing to migrate any more
    while [ -e /tmp/migrating ]; do
        xl mem-set "$g" $((104 + RANDOM % 12)); sleep 0.$((RANDOM % 5))
        xl mem-set "$g" $((116 + RANDOM % 12)); sleep 0.$((RANDOM % 5))
    done >/dev/null 2>&1
}
migrate() { # the receiver may own what the guest's target is when xl begins: it balloons below that, and from then on
    local pid status storm until=$(($(ms) + 60000))
    xl mem-set "$g" 127; touch /tmp/migrating
    xl -v migrate -s '' "$g" 'env -u LIBXL_SAVE_HELPER xl migrate-receive' >/tmp/migrate.log 2>&1 & pid=$!
    until [ "$(written_by_helper)" -gt 2000000 ] || [ "$(ms)" -gt $until ] || ! kill -0 $pid; do sleep 0.05; done
    restless & storm=$!
    wait $pid; status=$?
    rm -f /tmp/migrating; wait $storm
    return $status
}
good=0 bad=0
for n in $(seq "$times"); do
    start "$guest" "$(churning)"
    was=$(domid)
    if [ "$who" = ours ]; then
        step "$n: xl migrate, ballooned meanwhile" migrate || cat /tmp/migrate.log
    else
        migrate >/tmp/step 2>&1 && say "ok   $n: xl migrate" || say "     $n: xl migrate failed"
    fi
    tr '\r' '\n' </tmp/migrate.log | grep -v ': *[0-9]*/[0-9]*' >/out/migrate-$n.log
    if [ "$(domid)" = "$was" ]; then
        mkdir -p "/out/not-migrated-$n"; xl list >"/out/not-migrated-$n/list"; cp $logs/guest-"$g"*.log "/out/not-migrated-$n/"
    else
        good=$((good + 1))
    fi
    xl mem-set "$g" 127
    if [ "$who" = ours ]; then
        step "$n: it uses and checks the pages that the balloon brings" churns
        step "$n: the guest goes on, memory clean" goes_on
    else
        goes_on >/tmp/step 2>&1 && say "ok   $n: the guest goes on, memory clean" || { say "     $n: $(grep -am 1 CORRUPT /tmp/step || tail -n 1 /tmp/step)"; bad=$((bad + 1)); }
    fi
    xl destroy "$g"; forget
done
say "$who: $good of $times migrated, $bad not clean afterwards"
echo "{\"guest\": \"$guest\", \"who\": \"$who\", \"times\": $times, \"migrated\": $good, \"not_clean\": $bad}" >"/out/balloon-$guest-$who.json"
[ "$who" != ours ] || step "all migrated" [ "$good" -eq "$times" ]
finish
