# restore.sh [GUEST]: xl restore with pyxcsr-save-helper, of guests with holes, with vcpus
# offline, with a p2m that has grown, left paused; of `pyxcsr save`'s streams; Xen's own
# helper takes what it has restored, and the restored guest still balloons.
. /payload/tests/real/dom0/lib.sh
install_pyxcsr
start "${1:-pulse}"
full=$(sed -n 's/^memory = //p' "/lab/$g.cfg") vcpus=$(sed -n 's/^vcpus = //p' "/lab/$g.cfg")
ours() { LIBXL_SAVE_HELPER=$helper "$@"; }
theirs() { env -u LIBXL_SAVE_HELPER "$@"; }
mkdir /tmp/s
back() { ours xl restore "$@" && rm "${!#}"; } # by pyxcsr; dom0 has no room for all images at once
memory_is() { # memory_is MIB: the balloon gets there
    local i=0
    while [ $i -lt 60 ]; do
        [ "$(xl list "$g" | awk 'NR == 2 {print $3}')" -eq "$1" ] && return
        sleep 0.5; i=$((i + 1))
    done
    xl list; return 1
}

needed "stock xl save" theirs xl save "$g" /tmp/s/a
needed "xl restore through pyxcsr, left paused" back -p /tmp/s/a
step "it is paused" [ "$(state)" = --p--- ]
step "xl unpause" xl unpause "$g"
needed "the guest goes on, memory clean" goes_on

low=$((full * 7 / 8)) # less than the guest can give back, or nobody could restore it: libxl allows it no more
needed "holes: xl mem-set $low" xl mem-set "$g" $low
step "the guest has given memory back" memory_is $low
for saver in theirs ours; do
    needed "xl save by $saver" $saver xl save "$g" /tmp/s/h
    needed "xl restore through pyxcsr" back /tmp/s/h
    step "it has the memory it had" memory_is $low
    needed "the guest goes on, memory clean" goes_on
done
needed "xl mem-set $full" xl mem-set "$g" "$full"
step "the guest has all its memory again" memory_is "$full"
needed "the guest goes on, memory clean" goes_on

if [ "$vcpus" -gt 1 ]; then
    needed "two vcpus offline" xl vcpu-set "$g" $((vcpus - 2))
    sleep 3
    needed "xl save through pyxcsr" ours xl save "$g" /tmp/s/v
    needed "xl restore through pyxcsr" back /tmp/s/v
    online() { xl vcpu-list "$g" | awk 'NR > 1 && $5 !~ /p/' | wc -l; }
    step "the same are offline" [ "$(online)" -eq $((vcpus - 2)) ]
    needed "all vcpus again" xl vcpu-set --ignore-host "$g" "$vcpus"
    needed "the guest goes on, memory clean" goes_on
fi

needed "xl mem-max" xl mem-max "$g" $((full * 4))
needed "the p2m grows: xl mem-set $((full + 72))" xl mem-set "$g" $((full + 72))
step "the guest has more memory" memory_is $((full + 72))
needed "xl save through pyxcsr" ours xl save "$g" /tmp/s/g
needed "its configuration" xlwrap config /tmp/s/g /tmp/c.json
needed "xl restore through pyxcsr" back /tmp/s/g
needed "the guest goes on, memory clean" goes_on

needed "pyxcsr save $live --then destroy" pyxcsr save $live --then destroy "$g" /tmp/s/r
raw() { xlwrap wrap /tmp/s/r /tmp/c.json /tmp/s/r.xl && rm /tmp/s/r && back /tmp/s/r.xl; }
needed "xl restore through pyxcsr" raw
needed "the guest goes on, memory clean" goes_on
needed "stock xl save of what pyxcsr restored" theirs xl save "$g" /tmp/s/z
step "verify-stream-v2 accepts it" sh -c 'xlwrap unwrap /tmp/s/z /tmp/s/z.raw && verify-stream-v2 -i /tmp/s/z.raw && rm /tmp/s/z.raw'
needed "stock xl restore" theirs xl restore /tmp/s/z
step "the guest goes on, memory clean" goes_on
finish
