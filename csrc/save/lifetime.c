/* One save's memory: made once, before the guest is touched. */
#include "save/ending.h"
#include "save/follow.h"
#include "save/logdirty.h"
#include "save/pass.h"
#include "xen/tracking.h"

#include <stdlib.h>
#include <sys/mman.h>

static uint64_t words_for(uint64_t nr_pfns)
{
    return nr_pfns / 64 + !!(nr_pfns % 64);
}

static int alloc_bitmap(xcsr_save *s)
{
    s->bitmap = tracking_alloc(s->h, s->nr_words, &s->bitmap_buf, &s->bitmap_pages);
    return s->bitmap ? 0 : -ENOMEM;
}

static void free_bitmap(xcsr_save *s)
{
    tracking_free(s->h, s->bitmap, &s->bitmap_buf, s->bitmap_pages);
    s->bitmap = NULL;
}

static int alloc_arena(xcsr_save *s)
{
    void *at = mmap(NULL, TABLES_AT_ONCE * XCSR_PAGE, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    s->arena = at == MAP_FAILED ? NULL : at;
    return s->arena ? 0 : -ENOMEM;
}

static void release_memory(xcsr_save *s)
{
    sparse_free(&s->without_data);
    sparse_free(&s->deferred);
    sparse_free(&s->untracked);
    sparse_free(&s->counted);
    sparse_free(&s->broken);
    sparse_free(&s->named);
    follow_free(&s->follow);
    ending_free(&s->ending);
    if (s->arena)
        munmap(s->arena, TABLES_AT_ONCE * XCSR_PAGE);
    free(s);
}

static void release(xcsr_save *s)
{
    pass_drop(s);
    mapper_stop(&s->mapper);
    free_bitmap(s);
    release_memory(s);
}

int xcsr_save_new(xcsr *h, uint32_t domid, uint64_t nr_pfns, xcsr_p2m *p2m, xcsr_save **out)
{
    XCSR_ENTER(h);
    *out = NULL;
    if (!nr_pfns || (p2m && p2m->nr_pfns != nr_pfns))
        return xcsr_fail_call(h, EINVAL, "xcsr_save_new", "a save of %llu pfns", (unsigned long long)nr_pfns);
    xcsr_save *s = calloc(1, sizeof *s);
    if (!s)
        return xcsr_fail_call(h, ENOMEM, "calloc", "no memory for a save");
    s->h = h;
    s->batch = &s->batches[0];
    s->next = &s->batches[1];
    s->domid = domid;
    s->mapper.h = h;
    s->mapper.domid = domid;
    s->nr_pfns = nr_pfns;
    s->nr_words = words_for(nr_pfns);
    s->p2m = p2m;
    int rc = alloc_bitmap(s);
    if (!rc)
        rc = sparse_init(&s->without_data, nr_pfns);
    if (!rc)
        rc = sparse_init(&s->deferred, nr_pfns);
    if (!rc)
        rc = sparse_init(&s->untracked, nr_pfns);
    if (!rc)
        rc = sparse_init(&s->counted, nr_pfns);
    if (!rc)
        rc = sparse_init(&s->broken, nr_pfns);
    if (!rc)
        rc = sparse_init(&s->named, nr_pfns);
    if (!rc)
        rc = alloc_arena(s);
    if (rc) {
        release(s);
        return xcsr_fail_call(h, -rc, "xcsr_save_new", "no memory to track %llu pfns", (unsigned long long)nr_pfns);
    }
    *out = s;
    return 0;
}

uint64_t xcsr_save_nr_pfns(const xcsr_save *s)
{
    return s->nr_pfns;
}

uint32_t xcsr_save_has_data(const xcsr_save *s, uint64_t pfn)
{
    return pfn < s->nr_pfns && !sparse_has(&s->without_data, pfn);
}

static void mark_range(uint64_t *words, uint64_t from, uint64_t to)
{
    for (; from < to; from++)
        words[from / 64] |= 1ull << from % 64;
}

/* A hypercall buffer cannot grow, so another one takes its place. What is marked stays marked, and the new pfns are. */
static int grow_bitmap(xcsr_save *s, uint64_t nr_pfns)
{
    uint64_t *was = s->bitmap, nr_was = s->nr_words;
    int pages_was = s->bitmap_pages;
    xc_hypercall_buffer_t buf_was = s->bitmap_buf;
    s->nr_words = words_for(nr_pfns);
    int rc = alloc_bitmap(s);
    if (rc) {
        s->nr_words = nr_was;
        s->bitmap = was;
        s->bitmap_pages = pages_was;
        s->bitmap_buf = buf_was;
        return rc;
    }
    memset(s->bitmap, 0, s->nr_words * sizeof *s->bitmap);
    memcpy(s->bitmap, was, nr_was * sizeof *was);
    tracking_free(s->h, was, &buf_was, pages_was);
    mark_range(s->bitmap, s->nr_pfns, nr_pfns);
    return 0;
}

int xcsr_save_grow(xcsr_save *s, uint64_t nr_pfns)
{
    XCSR_ENTER(s->h);
    if (nr_pfns <= s->nr_pfns)
        return 0;
    int rc = s->batch->writing ? -EBUSY : sparse_grow(&s->without_data, nr_pfns);
    if (!rc)
        rc = sparse_grow(&s->deferred, nr_pfns);
    if (!rc)
        rc = sparse_grow(&s->untracked, nr_pfns);
    if (!rc)
        rc = sparse_grow(&s->counted, nr_pfns);
    if (!rc)
        rc = sparse_grow(&s->broken, nr_pfns);
    if (!rc)
        rc = sparse_grow(&s->named, nr_pfns);
    for (uint64_t pfn = s->nr_pfns; !rc && !s->p2m && pfn < nr_pfns; pfn++)
        rc = sparse_add(&s->without_data, pfn); /* so that one that has a page is known to be new */
    if (!rc)
        rc = follow_grow(s, nr_pfns);
    if (!rc)
        rc = grow_bitmap(s, nr_pfns);
    if (rc)
        return xcsr_fail_call(s->h, -rc, "xcsr_save_grow", "cannot track %llu pfns instead of %llu", (unsigned long long)nr_pfns,
                              (unsigned long long)s->nr_pfns);
    s->nr_pfns = nr_pfns;
    return 0;
}

void xcsr_save_free(xcsr_save *s)
{
    if (!s)
        return;
    xcsr *h = s->h;
    if (!xcsr_seize(h)) { /* the parent's save goes on, and log-dirty mode is its */
        mapper_forget(&s->mapper);
        release_memory(s);
        return;
    }
    logdirty_stop(s);
    release(s);
    xcsr_leave(&h);
}
