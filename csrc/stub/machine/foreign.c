/*
 * Foreign mappings. A mapping is made of the memfd itself, page by page or run by
 * run, so that the guest's writes show in it; pages that could not be mapped fault. err[] holds
 * negative errno values, as Linux's privcmd gives them.
 */
#include "stub/machine/domain.h"
#include "stub/machine/entry.h"
#include "stub/machine/foreign.h"
#include "stub/machine/frames.h"
#include "stub/machine/hvm/hvm.h"
#include "stub/machine/logdirty.h"
#include "stub/machine/window.h"

#include <sys/mman.h>

struct xenforeignmemory_handle {
    struct xenforeignmemory_handle *next;
};

struct mapping {
    struct mapping *next;
    uint8_t *address;
    size_t pages;
    uint32_t domid;
    uint64_t *counted;          /* frames of it that are counted, ST_NONE where there is none; NULL: none are */
    bool lent;                  /* the memory is window.c's */
};

static struct xenforeignmemory_handle *handles;
static struct mapping *mappings;

static bool handle_valid(const struct xenforeignmemory_handle *handle)
{
    for (const struct xenforeignmemory_handle *h = handles; h; h = h->next)
        if (h == handle)
            return true;
    return false;
}

xenforeignmemory_handle *xenforeignmemory_open(struct xentoollog_logger *logger, unsigned open_flags)
{
    struct xenforeignmemory_handle *handle;
    int rc = st_begin_quiet(ST_FN_xenforeignmemory_open);

    (void)logger;
    (void)open_flags;
    if (rc) {
        st_refused(ST_FN_xenforeignmemory_open, NULL, rc);
        return NULL;
    }
    handle = calloc(1, sizeof(*handle));
    if (handle) {
        handle->next = handles;
        handles = handle;
        st_usage.fmem_handles++;
    }
    st_end(ST_FN_xenforeignmemory_open, NULL, handle ? 0 : -ENOMEM);
    return handle;
}

static int drop_handle(xenforeignmemory_handle *handle)
{
    struct xenforeignmemory_handle **link = &handles;

    while (*link && *link != handle)
        link = &(*link)->next;
    if (!*link)
        return -EBADF;
    *link = handle->next;
    free(handle);
    st_usage.fmem_handles--;
    return 0;
}

/* Real ones close even if they report an error; so does this one. */
int xenforeignmemory_close(xenforeignmemory_handle *fmem)
{
    int rc = st_begin_quiet(ST_FN_xenforeignmemory_close);

    if (rc) {
        st_lock();
        drop_handle(fmem);
        st_unlock();
        return (int)st_refused(ST_FN_xenforeignmemory_close, NULL, rc);
    }
    return (int)st_end(ST_FN_xenforeignmemory_close, NULL, drop_handle(fmem));
}

static bool domain_known(uint32_t domid)
{
    return domid == DOMID_XEN || domid == 0 || st_domain_find(domid);
}

/* Whether that frame may be mapped on behalf of that domain, which there is. */
static inline int check_frame(uint32_t domid, uint64_t mfn, bool writable)
{
    const struct st_frame *frame;

    if (mfn >= st.nr_frames)
        return -EINVAL;
    frame = &st.frames[mfn];
    if (frame->kind == ST_FREE || frame->owner != domid)
        return -EINVAL;
    if (writable && domid == DOMID_XEN)
        return -EPERM;
    if (writable && (frame->level || frame->gdt || frame->kind == ST_GDT))
        return -EINVAL;
    return 0;
}

static int place(uint8_t *address, int prot, uint64_t mfn, uint64_t count)
{
    void *at = mmap(address, count << ST_PAGE_SHIFT, prot, MAP_SHARED | MAP_FIXED, st.fd,
                    st_file_offset(mfn));

    return at == MAP_FAILED ? -ENOMEM : 0;
}

static void note_writable(uint32_t domid, uint64_t mfn)
{
    struct st_domain *d = st_domain_find(domid);

    if (d && st.frames[mfn].kind != ST_XEN)
        st_mark_dirty(d, st.frames[mfn].pfn);
}

struct request {
    uint32_t domid;
    int prot;
    size_t pages;
    const xen_pfn_t *arr;       /* frames */
    int *err;
    struct st_domain *hvm;      /* whose gfns were asked for, if they were */
};

/*
 * gfns into frames, as Xen does it for a domain with a physmap, populating what is populated on demand. What has no
 * frame becomes one that is beyond the machine's end, and is refused as that.
 */
static int translate(struct request *r, xen_pfn_t **frames)
{
    struct st_domain *d = st_domain_find(r->domid);

    *frames = NULL;
    if (!d || !d->hv)
        return 0;
    *frames = malloc(r->pages * sizeof(**frames));
    if (!*frames)
        return -ENOMEM;
    for (size_t i = 0; i < r->pages; i++)
        if (st_hvm_frame(d, r->arr[i], &(*frames)[i]))
            (*frames)[i] = ST_NONE;
    r->arr = *frames;
    r->hvm = d;
    return 0;
}

/* Fills err[]; returns the first error, or 0. */
static int check_frames(const struct request *r)
{
    bool writable = (r->prot & PROT_WRITE) != 0, known = domain_known(r->domid), faults = st_page_faults();
    int first = 0;

    for (size_t i = 0; i < r->pages; i++) {
        int rc = faults ? st_page_fault(i) : 0;

        if (!rc)
            rc = known ? check_frame(r->domid, r->arr[i], writable) : -ESRCH;
        r->err[i] = rc;
        if (rc && !first)
            first = rc;
    }
    return first;
}

static size_t run_length(const struct request *r, size_t at)
{
    size_t length = 1;

    while (at + length < r->pages && !r->err[at + length] && r->arr[at + length] == r->arr[at] + length)
        length++;
    return st_frames_in_a_row(r->arr + at, length);
}

static void note_written(const struct request *r)
{
    for (size_t i = 0; r->prot & PROT_WRITE && !r->hvm && i < r->pages; i++)
        if (!r->err[i])
            note_writable(r->domid, r->arr[i]);
}

static int place_frames(const struct request *r, uint8_t *address)
{
    size_t i = 0;

    while (i < r->pages) {
        size_t length = r->err[i] ? 1 : run_length(r, i);

        if (!r->err[i]) {
            int rc = place(address + (i << ST_PAGE_SHIFT), r->prot, r->arr[i], length);

            if (rc)
                return rc;
        }
        i += length;
    }
    return 0;
}

static void account(const struct mapping *m, int64_t sign)
{
    if (m->domid == DOMID_XEN) {
        st_usage.xen_mappings += (uint64_t)sign;
        return;
    }
    st_usage.mappings += (uint64_t)sign;
    st_usage.mapped_pages += (uint64_t)(sign * (int64_t)m->pages);
}

/* What is mapped writable can become neither a page table nor a descriptor table. */
static int note_frames(struct mapping *m, const struct request *r)
{
    m->counted = malloc(r->pages * sizeof(*m->counted));
    if (!m->counted)
        return -ENOMEM;
    for (size_t i = 0; i < r->pages; i++) {
        m->counted[i] = r->err[i] ? ST_NONE : r->arr[i];
        if (!r->err[i])
            st.frames[r->arr[i]].foreign++;
    }
    return 0;
}

static void drop_frames(const struct mapping *m)
{
    for (size_t i = 0; m->counted && i < m->pages; i++) {
        const struct st_frame *frame = m->counted[i] == ST_NONE ? NULL : &st.frames[m->counted[i]];

        if (frame && frame->owner == m->domid)
            st_frame_unmapped(m->counted[i]);
    }
}

static int remember(uint8_t *address, const struct request *r, bool lent)
{
    struct mapping *m = malloc(sizeof(*m));

    if (!m)
        return -ENOMEM;
    *m = (struct mapping){ mappings, address, r->pages, r->domid, NULL, lent };
    if ((r->hvm || r->prot & PROT_WRITE) && note_frames(m, r)) {
        free(m);
        return -ENOMEM;
    }
    mappings = m;
    account(m, 1);
    note_written(r);
    return 0;
}

static int map_frames(const struct request *r, bool partial, uint8_t **result)
{
    int rc = check_frames(r);
    uint8_t *address = rc ? NULL : st_window_find(r->arr, r->pages);

    if (rc && !partial)
        return rc;
    if (address) {
        *result = address;
        return remember(address, r, true);
    }
    address = mmap(NULL, r->pages << ST_PAGE_SHIFT, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    if (address == MAP_FAILED)
        return -ENOMEM;
    rc = place_frames(r, address);
    rc = rc ? rc : remember(address, r, false);
    if (rc) {
        munmap(address, r->pages << ST_PAGE_SHIFT);
        return rc;
    }
    *result = address;
    return 0;
}

static int map_checked(xenforeignmemory_handle *fmem, struct request *r, uint8_t **result)
{
    bool partial = r->err != NULL;
    xen_pfn_t *frames;
    int rc;

    if (!handle_valid(fmem))
        return -EBADF;
    if (!r->pages || r->prot & ~(PROT_READ | PROT_WRITE))
        return -EINVAL;
    if (!partial)
        r->err = calloc(r->pages, sizeof(*r->err));
    if (!r->err)
        return -ENOMEM;
    rc = translate(r, &frames);
    rc = rc ? rc : map_frames(r, partial, result);
    free(frames);
    if (!partial)
        free(r->err);
    return rc;
}

void *xenforeignmemory_map(xenforeignmemory_handle *fmem, uint32_t dom, int prot, size_t pages,
                           const xen_pfn_t arr[], int err[])
{
    struct request r = { dom, prot, pages, arr, err, NULL };
    uint8_t *result = NULL;
    int rc = st_begin(ST_FN_xenforeignmemory_map);

    if (rc) {
        st_refused(ST_FN_xenforeignmemory_map, NULL, rc);
        return NULL;
    }
    rc = map_checked(fmem, &r, &result);
    st_end(ST_FN_xenforeignmemory_map, NULL, rc);
    return result;
}

static void forget(struct mapping **link)
{
    struct mapping *m = *link;

    if (!m->lent)
        munmap(m->address, m->pages << ST_PAGE_SHIFT);
    account(m, -1);
    *link = m->next;
    drop_frames(m);
    free(m->counted);
    free(m);
}

/* Stricter than a munmap(): what is unmapped is exactly what was mapped. */
static int unmap_frames(xenforeignmemory_handle *fmem, const void *address, size_t pages)
{
    struct mapping **link = &mappings;

    if (!handle_valid(fmem))
        return -EBADF;
    while (*link && (*link)->address != address)
        link = &(*link)->next;
    if (!*link || (*link)->pages != pages)
        return -EINVAL;
    forget(link);
    st_domain_reap();
    st_machine_idle();
    return 0;
}

int xenforeignmemory_unmap(xenforeignmemory_handle *fmem, void *addr, size_t pages)
{
    int rc = st_begin(ST_FN_xenforeignmemory_unmap);

    if (rc)
        return (int)st_refused(ST_FN_xenforeignmemory_unmap, NULL, rc);
    return (int)st_end(ST_FN_xenforeignmemory_unmap, NULL, unmap_frames(fmem, addr, pages));
}

uint64_t st_mappings_of(uint32_t domid)
{
    uint64_t count = 0;

    for (const struct mapping *m = mappings; m; m = m->next)
        count += m->domid == domid;
    return count;
}

void st_mappings_drop(void)
{
    while (mappings)
        forget(&mappings);
}

/*
 * Frames are not counted down: their m2p entries are in memory that is the parent's. Handles are not freed, here and for the
 * other libraries, lest a new one get the address of one that somebody still holds.
 */
void st_mappings_abandon(void)
{
    for (struct mapping *m = mappings; m; m = m->next) {
        free(m->counted);
        m->counted = NULL;
        m->lent = true;
    }
    st_mappings_drop();
    handles = NULL;
}
