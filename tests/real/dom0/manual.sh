# manual.sh: the commands of the manual's pages for dom0, taken out of them (the payload has the pages), typed as they stand there,
# with the lab's guest in GUEST's place. The guest's memory is clean after each block.
. /payload/tests/real/dom0/lib.sh
install_pyxcsr
step "man pages and completions are where programs look for them" sh -c \
    'ls /usr/local/share/man/man1/pyxcsr.1 /usr/local/share/man/man8/pyxcsr-save-helper.8 /usr/local/share/pyxcsr/pyxcsr-libvirt.conf'
start pulse
mkdir -p /tmp/blocks /tmp/typed
for page in dom0 xl containers; do
    # blocks whose mark says that they need dom0, and nothing else
    awk -v to="/tmp/blocks/$page" '/^<!-- not run: needs dom0/ {wanted = 1; next}
        wanted && /^```sh$/ {n++; inside = 1; wanted = 0; next} /^```/ {inside = 0}
        inside {gsub(/GUEST/, "pulse"); gsub(/FILE/, "file.xl"); print > (to "-" n ".sh")}' "/payload/$page.md"
done
ls /tmp/blocks
needed "there are such blocks" test "$(ls /tmp/blocks | wc -l)" -ge 4
for block in /tmp/blocks/*.sh; do
    sed 's/^/    $ /' "$block"
    forget
    step "${block##*/}" sh -ec "cd /tmp/typed; . $block; rm -f *"; tail -n 3 /tmp/step
    step "  the guest goes on, memory clean" goes_on
done
finish
