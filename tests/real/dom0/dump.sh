# dump.sh [GUEST]: pyxcsr saves the guest and leaves it paused; Xen's own `xl dump-core`
# then dumps it, and `pyxcsr dump` dumps what was saved: page by page the same. The save
# packed by gzip gives the same, compare finds nothing, and the index is used.
. /payload/tests/real/dom0/lib.sh
install_pyxcsr
start "${1:-pulse}"
mkdir /tmp/d
needed "pyxcsr save, the guest stays paused" pyxcsr save --no-live --then pause "$g" /tmp/d/s
step "the guest stands" stands
needed "xl dump-core" xl dump-core "$g" /tmp/d/theirs
needed "pyxcsr dump" pyxcsr dump /tmp/d/s /tmp/d/ours
cat /tmp/step
step "both say the same" python3 "$real/cores.py" /tmp/d/theirs /tmp/d/ours
cat /tmp/step
rm /tmp/d/theirs
packed() {
    gzip -1 <"$1" | pyxcsr dump - /tmp/d/again && cmp /tmp/d/ours /tmp/d/again && rm /tmp/d/again
}
step "and so does the save packed by gzip, from a pipe" packed /tmp/d/s
step "pyxcsr index" pyxcsr index /tmp/d/s
cat /tmp/step
step "pyxcsr compare with itself, by the index" pyxcsr compare /tmp/d/s /tmp/d/s
step "pyxcsr stats" pyxcsr stats /tmp/d/s
cat /tmp/step
raw() {
    pyxcsr dump --format raw /tmp/d/s /tmp/d/raw && python3 "$real/cores.py" --raw /tmp/d/ours /tmp/d/raw
}
[ "$1" = pvh ] && step "raw has the same pages" raw
xl destroy "$g"
rm -r /tmp/d
finish
