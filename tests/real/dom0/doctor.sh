# One wheel on every release: it is installed without a compiler, loads the libraries of the Xen that runs, and
# `pyxcsr doctor` says of this host what is so.
. /payload/tests/real/dom0/lib.sh
mkdir -p /tmp/none; for x in cc gcc x86_64-linux-gnu-gcc; do printf '#!/bin/sh\nexit 1\n' >/tmp/none/$x; chmod +x /tmp/none/$x; done
PATH=/tmp/none:$PATH install_pyxcsr
release=$(xl info xen_version | cut -d. -f1,2)
step "the wheel has no _xen" sh -c '! python3 -c "import pyxcsr._xen"'
step "and none of Xen's libraries" sh -c '! pip show -f pyxcsr 2>/dev/null | grep -i libxen'
loaded() {
    python3 - <<'PYTHON'
import pyxcsr
with pyxcsr.open_hypervisor("xen") as hv:
    import pyxcsr._loader as module
    from pyxcsr.hypervisor import loading
    found = loading.loaded(module)
    print(hv.xen_version(), found)
    assert found["release"] == found["running"] == hv.xen_version()[0] << 16 | hv.xen_version()[1]
PYTHON
}
step "the loader has taken the libraries of $release" loaded
cat /tmp/step
step "which Xen runs is told without sysfs, too" python3 -c "
import pyxcsr._loader as m
assert m.lib.xcsr_running() == $(($(echo "$release" | cut -d. -f1) << 16 | $(echo "$release" | cut -d. -f2))), hex(m.lib.xcsr_running())"
step "doctor: nothing is amiss" pyxcsr doctor
cat /tmp/step; cp /tmp/step /tmp/doctor.txt
step "it names libxenctrl of $release" grep -F "libxenctrl.so.$release" /tmp/doctor.txt
pyxcsr doctor --json >/tmp/doctor.json
able() { # able NAME ANSWER
    python3 -c "import json, sys; a = {x['name']: x['works'] for x in json.load(open('/tmp/doctor.json'))['abilities']}; print(a); sys.exit(a[sys.argv[1]] is not (sys.argv[2] == 'yes'))" "$@"
}
shadow=no; xl info virt_caps | grep -qw shadow && shadow=yes
step "live save of PV guests: $shadow" able "save PV guests live" $shadow
step "live save of PVH and HVM guests: yes" able "save PVH and HVM guests live" yes
step "doctor of another host" pyxcsr doctor localhost
wrong=$(find / -xdev -name libxencall.so.1 2>/dev/null | head -n 1)
step "a file that is no libxenctrl is named" refused "$wrong is no libxenctrl" env PYXCSR_LIBXENCTRL="$wrong" pyxcsr save --no-live 1 /tmp/f
cp /tmp/doctor.json /out/

start pulse
needed "its configuration" xlwrap config "$(domid)" /tmp/c.json
needed "pyxcsr save $live --then destroy" pyxcsr save $live --then destroy "$g" /tmp/a.raw
step "verify-stream-v2 accepts it" verify-stream-v2 -i /tmp/a.raw
needed "xl restore of it" restore_raw /tmp/a.raw /tmp/c.json
step "the guest goes on, memory clean" goes_on
xl destroy "$g"; forget; rm -f /tmp/a.raw /tmp/c.json
finish
