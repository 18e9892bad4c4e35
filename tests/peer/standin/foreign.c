/*
 * Mappings that are released with a plain munmap(), which the stub never hears of: they are made here,
 * by the stub's rules, and are not among those it counts. All or nothing, as libxenctrl's are.
 */
#include "standin.h"

#include <sys/mman.h>

static int check_frame(uint32_t domid, uint64_t mfn, bool writable)
{
    const struct st_frame *frame;

    if (mfn >= st.nr_frames)
        return -EINVAL;
    frame = &st.frames[mfn];
    if (frame->kind == ST_FREE || frame->owner != domid)
        return -EINVAL;
    if (writable && domid == DOMID_XEN)
        return -EPERM;
    return writable && (frame->level || frame->gdt || frame->kind == ST_GDT) ? -EINVAL : 0;
}

static int check_frames(uint32_t domid, bool writable, const xen_pfn_t *arr, size_t num)
{
    if (domid != DOMID_XEN && !st_domain_find(domid))
        return -ESRCH;
    for (size_t i = 0; i < num; i++) {
        int rc = st_page_fault(i);

        rc = rc ? rc : check_frame(domid, arr[i], writable);
        if (rc)
            return rc;
    }
    return 0;
}

/* Of a domain with a physmap gfns are asked for. What has no frame is refused as one beyond the machine's end. */
static int translate(uint32_t domid, const xen_pfn_t *arr, size_t num, xen_pfn_t **frames)
{
    struct st_domain *d = st_domain_find(domid);

    *frames = malloc(num * sizeof(**frames));
    if (!*frames)
        return -ENOMEM;
    for (size_t i = 0; i < num; i++) {
        (*frames)[i] = arr[i];
        if (d && d->hv && st_hvm_frame(d, arr[i], &(*frames)[i]))
            (*frames)[i] = ST_NONE;
    }
    return 0;
}

static int place(uint8_t *address, int prot, const xen_pfn_t *arr, size_t num)
{
    size_t length;

    for (size_t i = 0; i < num; i += length) {
        length = st_frames_in_a_row(arr + i, num - i);
        if (mmap(address + (i << ST_PAGE_SHIFT), length << ST_PAGE_SHIFT, prot, MAP_SHARED | MAP_FIXED, st.fd,
                 st_file_offset(arr[i])) == MAP_FAILED)
            return -ENOMEM;
    }
    return 0;
}

static void note_writable(uint32_t domid, const xen_pfn_t *arr, size_t num)
{
    struct st_domain *d = st_domain_find(domid);

    for (size_t i = 0; d && !d->hv && i < num; i++)
        if (st.frames[arr[i]].kind != ST_XEN)
            st_mark_dirty(d, st.frames[arr[i]].pfn);
}

static int map_frames(uint32_t domid, int prot, const xen_pfn_t *arr, size_t num, uint8_t **result)
{
    int rc = check_frames(domid, prot & PROT_WRITE, arr, num);
    uint8_t *address;

    if (rc)
        return rc;
    address = mmap(NULL, num << ST_PAGE_SHIFT, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (address == MAP_FAILED)
        return -ENOMEM;
    rc = place(address, prot, arr, num);
    if (rc) {
        munmap(address, num << ST_PAGE_SHIFT);
        return rc;
    }
    if (prot & PROT_WRITE)
        note_writable(domid, arr, num);
    *result = address;
    return 0;
}

/* To scripts of the stub this is a call of xenforeignmemory_map, which libxenctrl makes here, too. */
static void *map(xc_interface *xch, uint32_t domid, int prot, const xen_pfn_t *arr, size_t num)
{
    xen_pfn_t *frames = NULL;
    uint8_t *result = NULL;
    int rc = st_begin(ST_FN_xenforeignmemory_map);

    if (rc) {
        st_refused(ST_FN_xenforeignmemory_map, NULL, rc);
        return NULL;
    }
    rc = standin_handle(xch) ? 0 : -EBADF;
    rc = rc ? rc : num ? translate(domid, arr, num, &frames) : -EINVAL;
    rc = rc ? rc : map_frames(domid, prot, frames, num, &result);
    free(frames);
    st_end(ST_FN_xenforeignmemory_map, NULL, rc);
    return result;
}

void *xc_map_foreign_pages(xc_interface *xch, uint32_t domid, int prot, const xen_pfn_t *arr, int num)
{
    return map(xch, domid, prot, arr, num > 0 ? (size_t)num : 0);
}

void *xc_map_foreign_ranges(xc_interface *xch, uint32_t domid, size_t size, int prot, size_t chunksize,
                            struct standin_entry entries[], int nentries)
{
    size_t each = chunksize >> ST_PAGE_SHIFT, num = each * (size_t)nentries;
    xen_pfn_t *arr = calloc(num, sizeof(*arr));
    void *result;

    (void)size;
    if (!arr)
        return NULL;
    for (size_t i = 0; i < num; i++)
        arr[i] = entries[i / each].mfn + i % each;
    result = map(xch, domid, prot, arr, num);
    free(arr);
    return result;
}

void *xc_map_foreign_range(xc_interface *xch, uint32_t domid, int size, int prot, unsigned long mfn)
{
    struct standin_entry entry = { 0, mfn, 0 };
    size_t nr_bytes = ((size_t)size + ST_PAGE_SIZE - 1) & ~(ST_PAGE_SIZE - 1);

    return xc_map_foreign_ranges(xch, domid, nr_bytes, prot, nr_bytes, &entry, 1);
}

/* XENMEM's hypercall for it, which writes to a domain's pages past any mapping. */
int xc_clear_domain_pages(xc_interface *xch, uint32_t domid, unsigned long dst_pfn, int num)
{
    for (int i = 0; i < num; i++) {
        void *page = xc_map_foreign_range(xch, domid, ST_PAGE_SIZE, PROT_READ | PROT_WRITE, dst_pfn + (unsigned)i);

        if (!page)
            return -1;
        memset(page, 0, ST_PAGE_SIZE);
        munmap(page, ST_PAGE_SIZE);
    }
    return 0;
}
