/*
 * What Xen has of an HVM or PVH domain besides what it has of any: its physmap is d->truth by gfn, with marks for
 * what is populated on demand; its params; the state of vcpus and emulated devices.
 */
#ifndef XCSR_STUB_MACHINE_HVM_HVM_H
#define XCSR_STUB_MACHINE_HVM_HVM_H

#include "stub/machine/domain.h"

#include <xen/hvm/params.h>
#include <xen/hvm/save.h>

/* One entry of the context, without its descriptor. */
struct st_hvm_entry {
    uint16_t code, instance;
    uint32_t length;
    uint8_t *data;
};

struct st_hvm {
    bool device_model;                  /* HVM: devices are emulated; PVH has a local APIC and no more */
    bool s3;                            /* asleep */
    bool assigned;                      /* a device of the host's is assigned to it */
    bool dm_logdirty;                   /* the device model tells Xen what it writes */
    uint64_t params[HVM_NR_PARAMS];
    uint64_t x87_fip_width;

    struct st_hvm_entry *entries;
    uint32_t nr_entries;

    uint64_t *pod;                      /* bits by gfn: populated on demand; NULL: there never was one */
    uint64_t pod_entries;
    uint64_t *pod_cache, pod_cached, pod_room;  /* frames that are the domain's and at no gfn */
    uint64_t pod_reclaimed;             /* where the search for zero pages goes on */
    uint64_t lingering;                 /* frames that left while they were mapped, and are mapped still */

    uint64_t *fresh, nr_fresh, fresh_room; /* gfns that came since the bitmap was cleaned */
};

/* hvm.c. device_model: HVM, else PVH. */
int st_hvm_alloc(struct st_domain *d, bool device_model);
void st_hvm_free(struct st_domain *d);
/* Gives back what is at no gfn. */
void st_hvm_give_back(struct st_domain *d);

/* params.c: as a domain in control sets and gets them. */
int st_hvm_param_set(struct st_domain *d, uint32_t index, uint64_t value);
int st_hvm_param_get(const struct st_domain *d, uint32_t index, uint64_t *value);

/* context.c */
struct st_hvm_kind {
    const char *name;                   /* NULL: there is no such kind */
    uint32_t length;                    /* of the data; of the least, where it varies */
    bool varies;
    bool emulated;                      /* only where there is a device model */
    enum { ST_ONE, ST_PAIR, ST_PER_VCPU } instances;
};
extern const struct st_hvm_kind st_hvm_kinds[HVM_SAVE_CODE_MAX + 1];
uint32_t st_hvm_instances(const struct st_domain *d, uint32_t code);
/* NULL if there is none. */
struct st_hvm_entry *st_hvm_find(const struct st_domain *d, uint32_t code, uint32_t instance);
/* A new entry, or other data for the one there is; data NULL: zeroes. */
int st_hvm_put(struct st_domain *d, uint32_t code, uint32_t instance, const void *data, uint32_t length);
void st_hvm_drop_context(struct st_domain *d);
/* The registers of a vcpu; NULL while it is down. */
struct hvm_hw_cpu *st_hvm_cpu(const struct st_domain *d, uint32_t vcpu);

/* context_load.c */
int st_hvm_load(struct st_domain *d, const uint8_t *data, uint32_t size);

/* physmap.c */
/* The frame at a gfn, which a look at it may populate; -EINVAL: there is none. */
int st_hvm_frame(struct st_domain *d, uint64_t gfn, uint64_t *mfn);
/* After a frame was added at a gfn: what of it log-dirty mode sees. */
int st_hvm_added(struct st_domain *d, uint64_t gfn);
/* After a frame was taken from a gfn. */
void st_hvm_removed(struct st_domain *d, uint64_t gfn);
/* The bitmap was cleaned: everything is tracked from now on. */
void st_hvm_track_all(struct st_domain *d);

/* pod.c */
static inline bool st_hvm_is_pod(const struct st_domain *d, uint64_t gfn)
{
    return d->hv->pod && gfn < ST_MAX_SPAN && d->hv->pod[gfn / 64] >> gfn % 64 & 1;
}
int st_pod_mark(struct st_domain *d, uint64_t gfn);
/* The entry is none any more; frames of the cache that have no entry left go back. */
void st_pod_unmark(struct st_domain *d, uint64_t gfn);
/* More frames for the cache, or fewer. */
int st_pod_set_cache(struct st_domain *d, uint64_t pages);
int st_pod_populate(struct st_domain *d, uint64_t gfn);

#endif
