# Builds pyxcsr in dom0 from the checkout, without a network, leaves the wheel in
# /out, installs it, and asks the running Xen for its domains.
. /payload/tests/real/dom0/lib.sh

needed "build a wheel" env PYXCSR_BACKENDS=xen,stub \
    pip wheel --quiet --no-index --no-build-isolation --no-deps -w /out /payload
cp /out/*.whl /payload/
install_pyxcsr
step "_xen is linked with this release's libxenctrl" sh -c \
    "ldd \$(python3 -c 'import pyxcsr._xen as m; print(m.__file__)') | grep -F libxenctrl.so.\$(xl info xen_version | cut -d. -f1,2)"
listed() { python3 -c "import pyxcsr; hv = pyxcsr.open_hypervisor('xen'); print(hv.domains())"; }
step "lists domains" listed
cat /tmp/step
start pulse
step "lists the guest" sh -c "python3 -c \"
import pyxcsr, sys
with pyxcsr.open_hypervisor('xen') as hv:
    ids = [getattr(d, 'domid', d) for d in hv.domains()]
sys.exit(0 if {0, $(domid)} <= set(ids) else f'domains() says {ids}')\""
step "demo" pyxcsr demo
finish
