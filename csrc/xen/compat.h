/* What the core needs of Xen's headers, and the exported functions that no public header declares. Linked with directly:
 * libxenctrl 4.16 and later (xc_logdirty_control, xc_cpu_policy_*). What differs between releases: loader/table.h. */
#ifndef XC_COMPAT_H
#define XC_COMPAT_H

#include <xenctrl.h>
#include <xenforeignmemory.h>
#include <xenguest.h>
#include <xenstore.h>
#include <xentoollog.h>

/* 4.16 made the domctl interface version 0x14 (xen/domctl.h). */
#if XEN_DOMCTL_INTERFACE_VERSION < 0x14
#error "pyxcsr needs the libraries of Xen 4.16 or later"
#endif

#if XEN_DOMCTL_INTERFACE_VERSION < 0x15 /* the name that it has in libxenctrl 4.16, which does not declare it */
long do_memory_op(xc_interface *xch, int cmd, void *arg, size_t len);
#define xc_memory_op do_memory_op
#endif

/* libxc: in-place; in: mfns, out: types in XEN_DOMCTL_PFINFO_LTAB_MASK; at most 1024. */
int xc_get_pfn_type_batch(xc_interface *xch, uint32_t dom, unsigned int num, xen_pfn_t *arr);

#endif
