# carry_out.sh [GUEST]: the guest saved by pyxcsr and by Xen's own helper, as xl save files
# in /out for another release to restore (carry_in.sh).
. /payload/tests/real/dom0/lib.sh
install_pyxcsr
start "${1:-pulse}"
mkdir -p /out
needed "xl save -c through pyxcsr" env LIBXL_SAVE_HELPER="$helper" xl save -c "$g" /out/pyxcsr.xl
needed "the guest goes on" goes_on
needed "stock xl save" env -u LIBXL_SAVE_HELPER xl save "$g" /out/stock.xl
finish
