/* HVM and PVH guests. */
#ifndef XCSR_STUB_KERNEL_HVM_GUEST_H
#define XCSR_STUB_KERNEL_HVM_GUEST_H

#include "stub/kernel/hvm/layout.h"
#include "stub/kernel/kernel.h"

extern const struct st_guest_kind st_hvm_guest_kind;

static inline uint64_t st_special_gfn(const struct st_domain *d, enum st_special which)
{
    return st_layout_special(&d->kernel->config, &d->kernel->hvm, which);
}

/* build.c */
int st_hvm_guest_build(struct st_domain *d);
/* What a special page holds once the guest is built. */
void st_special_page(enum st_special which, uint64_t *page);

/* state.c: made-up vcpus and devices that Xen would accept. */
int st_hvm_state_build(struct st_domain *d);

/* adopt.c */
/* Writes what the kernel knows into its page. */
void st_hvm_remember(struct st_domain *d);
int st_hvm_start(struct st_domain *d);

/* devmodel.c: a turn of the device model. */
void st_hvm_devices(struct st_domain *d);

/* balloon.c */
int st_hvm_balloon_out(struct st_domain *d, uint64_t gfn);
int st_hvm_balloon_in(struct st_domain *d, uint64_t gfn, uint64_t mfn);
/* One page leaves or comes back. */
void st_hvm_balloon_some(struct st_domain *d);

#endif
