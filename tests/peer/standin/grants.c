/*
 * The grant table as libxenguest seeds it: two entries written into a mapped frame of it. The frame here is
 * plain memory; when it is unmapped, what was written goes to the stub as xc_dom_gnttab_seed().
 */
#include "standin.h"

#include <xen/grant_table.h>
#include <xen/memory.h>

struct xenforeignmemory_resource_handle {
    struct standin_handle *handle;
    uint32_t domid;
    grant_entry_v1_t *entries;
};

xenforeignmemory_resource_handle *xenforeignmemory_map_resource(
    xenforeignmemory_handle *fmem, domid_t domid, unsigned int type, unsigned int id, unsigned long frame,
    unsigned long nr_frames, void **paddr, int prot, int flags)
{
    xenforeignmemory_resource_handle *r;

    (void)prot;
    (void)flags;
    if (type != XENMEM_resource_grant_table || id != XENMEM_resource_grant_table_id_shared || frame
        || nr_frames != 1 || !standin_handle_with(fmem)) {
        errno = EINVAL;
        return NULL;
    }
    r = calloc(1, sizeof(*r));
    if (r)
        r->entries = calloc(1, ST_PAGE_SIZE);
    if (!r || !r->entries) {
        free(r);
        return NULL;
    }
    r->handle = standin_handle_with(fmem);
    r->domid = domid;
    *paddr = r->entries;
    return r;
}

static uint64_t granted(const grant_entry_v1_t *entry)
{
    return entry->flags & GTF_permit_access ? entry->frame : ST_NONE;
}

static bool is_hvm(uint32_t domid)
{
    const struct st_domain *d;
    bool hvm;

    st_lock();
    d = st_domain_find(domid);
    hvm = d && d->hv;
    st_unlock();
    return hvm;
}

int xenforeignmemory_unmap_resource(xenforeignmemory_handle *fmem, xenforeignmemory_resource_handle *r)
{
    const grant_entry_v1_t *console, *store;
    int rc;

    (void)fmem;
    if (!r)
        return 0;
    console = &r->entries[GNTTAB_RESERVED_CONSOLE];
    store = &r->entries[GNTTAB_RESERVED_XENSTORE];
    rc = xc_dom_gnttab_seed((xc_interface *)(void *)r->handle, (domid_t)r->domid, is_hvm(r->domid), granted(console),
                            granted(store), console->domid, store->domid);
    free(r->entries);
    free(r);
    return rc;
}
