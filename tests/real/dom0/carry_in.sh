# carry_in.sh [GUEST]: the xl save files in /payload, which come from another release,
# restored each by Xen's own helper and by pyxcsr. What Xen's own cannot restore, pyxcsr need not.
. /payload/tests/real/dom0/lib.sh
install_pyxcsr
g=${1:-pulse}
appears() { local i=0; while [ $i -lt 120 ]; do [ -n "$(beat)" ] && return; sleep 0.5; i=$((i + 1)); done; xl list; return 1; }
restored() { # restored RESTORER FILE
    if [ "$1" = pyxcsr ]; then LIBXL_SAVE_HELPER=$helper xl restore "$2"; else env -u LIBXL_SAVE_HELPER xl restore "$2"; fi
}
for file in /payload/*.xl; do
    for restorer in stock pyxcsr; do
        what="saved by $(basename "$file" .xl) elsewhere, restored by $restorer"
        needed "$what" restored $restorer "$file"
        step "  a heartbeat" appears
        step "  the guest goes on, memory clean" goes_on
        xl destroy "$g"; forget
    done
done
finish
