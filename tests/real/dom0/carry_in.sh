# carry_in.sh [GUEST]: the xl save files in /payload, which come from another release,
# restored each by Xen's own helper and by pyxcsr. Where Xen's own cannot (as when a newer
# release's HVM context is given to an older one), it is counted, and what pyxcsr does is told.
. /payload/tests/real/dom0/lib.sh
install_pyxcsr
g=${1:-pulse}
appears() { local i=0; while [ $i -lt 120 ]; do [ -n "$(beat)" ] && return; sleep 0.5; i=$((i + 1)); done; xl list; return 1; }
restored() { # restored RESTORER FILE
    if [ "$1" = pyxcsr ]; then LIBXL_SAVE_HELPER=$helper xl restore "$2"; else env -u LIBXL_SAVE_HELPER xl restore "$2"; fi
}
by_both() { # by_both FILE: what Xen's own helper restores, pyxcsr restores, too; what it does not, pyxcsr may refuse
    local restorer what
    for restorer in stock pyxcsr; do
        what="saved by $(basename "$1" .xl) elsewhere, restored by $restorer"
        needed "$what" restored $restorer "$1"
        step "  a heartbeat" appears
        step "  the guest goes on, memory clean" goes_on
        xl destroy "$g"; forget
    done
}
stock=0
for file in /payload/*.xl; do
    if env -u LIBXL_SAVE_HELPER xl restore -p "$file" >/tmp/stock.log 2>&1; then
        stock=$((stock + 1)); xl destroy "$g"; forget
        by_both "$file"
    else
        say "     saved by $(basename "$file" .xl) elsewhere: Xen's own helper cannot restore it: $(grep -a 'xc: error' /tmp/stock.log | head -n 1)"
        restored pyxcsr "$file" >/tmp/ours.log 2>&1 && by=restores || by="does not restore"
        say "     pyxcsr $by it: $(grep -a 'pyxcsr\|xc: error' /tmp/ours.log | head -n 2)"
        xl destroy "$g" 2>/dev/null; forget
        step "  nothing is left of it" [ "$(xl list | grep -c .)" = 2 ]
    fi
done
say "Xen's own helper restored $stock of $(ls /payload/*.xl | grep -c .)"
finish
