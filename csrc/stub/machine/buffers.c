/*
 * Hypercall-safe buffers. Each is known by address and length, so that a hypercall that is
 * handed other memory, or too little of it, fails with EFAULT.
 */
#include "stub/machine/buffers.h"
#include "stub/machine/entry.h"
#include "stub/machine/frames.h"

#include <stdio.h>

struct buffer {
    struct buffer *next;
    uint8_t *memory;
    size_t length;
    bool inherited;             /* from before a fork */
};

static struct buffer *buffers;

xc_hypercall_buffer_t XC__HYPERCALL_BUFFER_NAME(HYPERCALL_BUFFER_NULL) = {
    .hbuf = NULL, .param_shadow = NULL, .dir = 0, .ubuf = (void *)-1, .sz = 0,
};

bool st_buffer_holds(const void *address, uint64_t length)
{
    const uint8_t *at = address;

    for (const struct buffer *b = buffers; b; b = b->next)
        if (at >= b->memory && at <= b->memory + b->length)
            return length <= (uint64_t)(b->memory + b->length - at);
    return false;
}

/* libxenctrl aborts, too, where a buffer is allocated or freed through an argument's companion. */
static void refuse_argument(const xc_hypercall_buffer_t *b)
{
    if (b->hbuf != (void *)-1)
        return;
    fprintf(stderr, "stub: a hypercall buffer was used through an argument\n");
    abort();
}

static int allocate(xc_hypercall_buffer_t *b, size_t length)
{
    struct buffer *entry = malloc(sizeof(*entry));
    void *memory = NULL;

    if (!entry || posix_memalign(&memory, ST_PAGE_SIZE, length ? length : 1)) {
        free(entry);
        return -ENOMEM;
    }
    memset(memory, 0xa5, length);
    *entry = (struct buffer){ buffers, memory, length, false };
    buffers = entry;
    st_usage.hypercall_buffers++;
    b->hbuf = memory;
    return 0;
}

static void release(xc_hypercall_buffer_t *b)
{
    struct buffer **link = &buffers, *entry;

    if (!b->hbuf)
        return;
    while (*link && (*link)->memory != b->hbuf)
        link = &(*link)->next;
    entry = *link;
    if (!entry) {
        fprintf(stderr, "stub: %p is no hypercall buffer, or was freed before\n", b->hbuf);
        abort();
    }
    *link = entry->next;
    st_usage.hypercall_buffers -= !entry->inherited;
    free(entry->memory);
    free(entry);
}

void st_buffers_abandon(void)
{
    for (struct buffer *b = buffers; b; b = b->next)
        b->inherited = true;
}

static void *allocate_call(enum st_function function, xc_interface *xch, xc_hypercall_buffer_t *b,
                           size_t length)
{
    int rc = st_begin_quiet(function);

    if (rc) {
        st_refused(function, xch, rc);
        return NULL;
    }
    refuse_argument(b);
    rc = allocate(b, length);
    st_end(function, xch, rc);
    return rc ? NULL : b->hbuf;
}

static void release_call(enum st_function function, xc_interface *xch, xc_hypercall_buffer_t *b)
{
    if (st_begin_quiet(function)) {
        st_lock();
        release(b);
        st_unlock();
        return;
    }
    refuse_argument(b);
    release(b);
    st_end(function, xch, 0);
}

void *xc__hypercall_buffer_alloc(xc_interface *xch, xc_hypercall_buffer_t *b, size_t size)
{
    return allocate_call(ST_FN_xc__hypercall_buffer_alloc, xch, b, size);
}

void xc__hypercall_buffer_free(xc_interface *xch, xc_hypercall_buffer_t *b)
{
    release_call(ST_FN_xc__hypercall_buffer_free, xch, b);
}

void *xc__hypercall_buffer_alloc_pages(xc_interface *xch, xc_hypercall_buffer_t *b, int nr_pages)
{
    return allocate_call(ST_FN_xc__hypercall_buffer_alloc_pages, xch, b, (size_t)nr_pages << ST_PAGE_SHIFT);
}

void xc__hypercall_buffer_free_pages(xc_interface *xch, xc_hypercall_buffer_t *b, int nr_pages)
{
    (void)nr_pages;
    release_call(ST_FN_xc__hypercall_buffer_free_pages, xch, b);
}
