/* The machine's m2p table, which Xen shows read-only as frames of DOMID_XEN. */
#include "xen/handle.h"

#include <stdlib.h>
#include <sys/mman.h>

#define CHUNK_SHIFT 21 /* Xen lists the table in pieces of 2 MiB (XENMEM_machphys_mfn_list) */
#define CHUNK_FRAMES (1u << (CHUNK_SHIFT - 12))

static xen_pfn_t *list_frames(xcsr *h, uint64_t chunks)
{
    xen_pfn_t *frames = malloc(chunks * CHUNK_FRAMES * sizeof *frames);
    xen_pfn_t *starts = malloc(chunks * sizeof *starts);
    if (!frames || !starts) {
        xcsr_fail_call(h, ENOMEM, "malloc", "no memory to list the m2p's frames");
        goto fail;
    }
    if (xc_machphys_mfn_list(h->xch, chunks, starts)) {
        xcsr_fail_call(h, errno, "xc_machphys_mfn_list", "cannot list the m2p's frames");
        goto fail;
    }
    for (uint64_t i = 0; i < chunks * CHUNK_FRAMES; i++)
        frames[i] = starts[i / CHUNK_FRAMES] + i % CHUNK_FRAMES;
    free(starts);
    return frames;
fail:
    free(starts);
    free(frames);
    return NULL;
}

static int ask_nr_mfns(xcsr *h, unsigned long *nr)
{
    *nr = 0;
    if (xc_maximum_ram_page(h->xch, nr) < 0 || !*nr) /* in spite of its name, one past the last frame */
        return xcsr_fail_call(h, errno, "xc_maximum_ram_page", "cannot ask for the machine's last frame");
    return 0;
}

int xcsr_m2p_need(xcsr *h)
{
    unsigned long max_page;
    if (h->m2p)
        return 0;
    int rc = ask_nr_mfns(h, &max_page);
    if (rc)
        return rc;
    uint64_t chunks = (max_page * sizeof(uint64_t) + (1ull << CHUNK_SHIFT) - 1) >> CHUNK_SHIFT;
    xen_pfn_t *frames = list_frames(h, chunks);
    if (!frames)
        return -h->error.err;
    void *at = xenforeignmemory_map(h->fmem, DOMID_XEN, PROT_READ, chunks * CHUNK_FRAMES, frames, NULL);
    int err = errno;
    free(frames);
    if (!at)
        return xcsr_fail_call(h, err, "xenforeignmemory_map", "cannot map the m2p (%lu frames)", max_page);
    h->m2p = at;
    h->m2p_frames = chunks * CHUNK_FRAMES;
    h->nr_mfns = max_page;
    return 0;
}

/* A frame beyond the machine's last one is taken for a hole of a guest's p2m. */
int m2p_need_whole(xcsr *h)
{
    unsigned long now;
    if (!h->m2p)
        return xcsr_m2p_need(h);
    int rc = ask_nr_mfns(h, &now);
    if (rc || now <= h->nr_mfns)
        return rc;
    return xcsr_fail_call(h, ERANGE, "xc_maximum_ram_page",
                          "memory was added to the host (%#lx frames now, %#llx when the m2p was mapped), and a frame of the guest "
                          "in it would be taken for a hole: open the hypervisor anew", now, (unsigned long long)h->nr_mfns);
}

/* Xen gives it to 64-bit callers too, if it has 32-bit guests at all. */
int m2p_need_compat(xcsr *h)
{
    if (h->compat_m2p)
        return 0;
    DECLARE_HYPERCALL_BUFFER(xen_pfn_t, first);
    first = xc_hypercall_buffer_alloc(h->xch, first, sizeof *first);
    if (!first)
        return xcsr_fail_call(h, errno, "xc_hypercall_buffer_alloc", "no hypercall memory for a frame number");
    struct xen_machphys_mfn_list list = {.max_extents = 1};
    set_xen_guest_handle_raw(list.extent_start, HYPERCALL_BUFFER(first)->hbuf);
    *first = 0;
    int rc = 0;
    if (xc_memory_op(h->xch, XENMEM_machphys_compat_mfn_list, &list, sizeof list) < 0)
        rc = xcsr_fail_call(h, errno, "XENMEM_machphys_compat_mfn_list", "cannot ask for the m2p of 32-bit guests");
    else if (list.nr_extents != 1 || !*first)
        rc = xcsr_fail_call(h, EPROTO, "XENMEM_machphys_compat_mfn_list", "Xen says that there is no m2p for 32-bit guests");
    else
        h->compat_m2p = *first;
    xc_hypercall_buffer_free(h->xch, first);
    return rc;
}

int xcsr_nr_mfns(xcsr *h, uint64_t *nr)
{
    XCSR_ENTER(h);
    int rc = m2p_need_whole(h);
    *nr = h->nr_mfns;
    return rc;
}

int xcsr_m2p_get(xcsr *h, uint64_t mfn, uint64_t *pfn)
{
    XCSR_ENTER(h);
    int rc = xcsr_m2p_need(h);
    if (rc)
        return rc;
    if (mfn >= h->nr_mfns)
        return xcsr_fail(&h->error, XCSR_E_P2M, ERANGE, "m2p", "mfn %#llx is beyond the machine's %#llx frames",
                         (unsigned long long)mfn, (unsigned long long)h->nr_mfns);
    *pfn = xcsr_load(&h->m2p[mfn]);
    return 0;
}
