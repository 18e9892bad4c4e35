/* Internal: where a PV vcpu's context names frames. The caller has entered. */
#ifndef XCSR_VCPU_CONTEXT_H
#define XCSR_VCPU_CONTEXT_H

#include "xen/handle.h"

struct context_frames { /* how the frames in a context get other names */
    const struct pt_geometry *geometry;
    void *by;     /* handed to both */
    bool to_pfns; /* from mfns to pfns, as the stream has them; or back */
    /* field names frame from, an ordinary page (level 0) or a page table of that level; *to: its other name. */
    int (*rename)(void *by, uint32_t vcpu, const char *field, uint64_t from, uint32_t level, uint64_t *to);
    int (*too_many)(void *by, uint32_t vcpu, uint64_t gdt_ents); /* what to return where the GDT has more than a guest's can */
};

/* Renames the frames in context, of geometry->vcpu.size bytes. An error of theirs leaves it half done. */
int vcpu_rename_frames(const struct context_frames *f, uint32_t vcpu, void *context);

int vcpu_to_pfns(const xcsr_p2m *p, uint32_t vcpu, void *context);                                         /* -ERANGE, XCSR_E_STATE */
int vcpu_wrong(xcsr *h, uint32_t vcpu, const char *field, uint64_t value, const char *what); /* -ERANGE, XCSR_E_STATE */

#endif
