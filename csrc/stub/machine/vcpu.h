/* vcpus as Xen has them. */
#ifndef XCSR_STUB_MACHINE_VCPU_H
#define XCSR_STUB_MACHINE_VCPU_H

#include "stub/machine/domain.h"

#define ST_MAX_VCPUS   64
#define ST_MAX_MSRS    8
#define ST_MAX_XSAVE   8192
#define ST_XFEATURES   7UL              /* of the machine's XSAVE: x87, SSE, AVX */

struct st_vcpu {
    bool online, initialised;           /* initialised: Xen has a context of it */
    vcpu_guest_context_t context;
    struct xen_domctl_ext_vcpucontext ext;
    uint64_t xfeature_mask;
    uint32_t xsave_size;
    uint32_t nr_msrs;
    uint8_t *xsave;                     /* ST_MAX_XSAVE bytes */
    struct xen_domctl_vcpu_msr msrs[ST_MAX_MSRS];
};

/* compat.c: Xen keeps every context in the 64-bit layout, and speaks with tools in the guest's. A frame number in
 * its cr3 is folded out there, and what only a 32-bit context has stands in the place of syscall_callback_eip. */
void st_context_narrow(const vcpu_guest_context_t *from, vcpu_guest_context_x86_32_t *to);
void st_context_widen(const vcpu_guest_context_x86_32_t *from, vcpu_guest_context_t *to);

int st_vcpus_alloc(struct st_domain *d);
void st_vcpus_free(struct st_domain *d);
struct st_vcpu *st_vcpu_find(uint32_t domid, uint32_t vcpu, int *error);

/* vcpu_set.c: the domctls that set what vcpu.c reads */
int st_set_ext(struct xen_domctl *op);
int st_set_xsave(struct xen_domctl *op);
int st_set_msrs(struct xen_domctl *op);

#endif
