# figures.sh [GUEST [TIMES]]: pyxcsr and Xen's own tools measured in turn on the same
# running guest; a row a run into /out/figures.json, medians printed.
. /payload/tests/real/dom0/lib.sh
install_pyxcsr
start "${1:-pulse}"
step "measured" env HELPER="$helper" python3 "$real/figures.py" "$g" "${2:-3}" /out/figures.json
cat /tmp/step
step "the guest goes on, memory clean" goes_on
finish
