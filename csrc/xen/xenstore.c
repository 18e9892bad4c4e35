/* The few xenstore operations that suspending a guest needs. The connection is made at first use. */
#include "xen/handle.h"

#include <stdlib.h>

static int connect_store(xcsr *h)
{
    if (h->xs)
        return 0;
    h->xs = xs_open(0);
    return h->xs ? 0 : xcsr_fail_call(h, errno, "xs_open", "cannot reach xenstored (is it running?)");
}

static int copy_node(xcsr *h, xs_transaction_t t, const char *path, void *buf, size_t *len)
{
    unsigned int size = 0;
    char *value = xs_read(h->xs, t, path, &size);
    if (!value)
        return xcsr_fail_call(h, errno, "xs_read", "cannot read %s", path);
    size_t capacity = *len;
    *len = size;
    if (size > capacity) {
        free(value);
        return xcsr_fail_call(h, ENOBUFS, "xs_read", "%s is longer than expected", path);
    }
    memcpy(buf, value, size);
    free(value);
    return 0;
}

int xcsr_xenstore_read(xcsr *h, const char *path, void *buf, size_t *len)
{
    XCSR_ENTER(h);
    int rc = connect_store(h);
    return rc ? rc : copy_node(h, XBT_NULL, path, buf, len);
}

static int write_node(xcsr *h, xs_transaction_t t, const char *path, const void *data, size_t len)
{
    if (!xs_write(h->xs, t, path, data, (unsigned int)len))
        return xcsr_fail_call(h, errno, "xs_write", "cannot write %s", path);
    return 0;
}

int xcsr_xenstore_write(xcsr *h, const char *path, const void *data, size_t len)
{
    XCSR_ENTER(h);
    int rc = connect_store(h);
    return rc ? rc : write_node(h, XBT_NULL, path, data, len);
}

/* One try; -EAGAIN: somebody else changed the node meanwhile. */
static int swap_once(xcsr *h, const char *path, const void *expected, size_t expected_len,
                     const void *data, size_t len, uint32_t *done)
{
    char now[256];
    size_t size = sizeof now;
    xs_transaction_t t = xs_transaction_start(h->xs);
    if (t == XBT_NULL)
        return xcsr_fail_call(h, errno, "xs_transaction_start", "cannot start a transaction");
    int rc = copy_node(h, t, path, now, &size);
    *done = !rc && size == expected_len && !memcmp(now, expected, size);
    if (*done)
        rc = write_node(h, t, path, data, len);
    if (!xs_transaction_end(h->xs, t, rc || !*done) && !rc && *done) {
        *done = 0;
        return xcsr_fail_call(h, errno, "xs_transaction_end", "cannot end the transaction on %s", path);
    }
    if (!*done && (rc == -ENOBUFS || rc == -ENOENT)) /* longer than anything expected, or not there: it differs */
        return 0;
    return rc;
}

int xcsr_xenstore_swap(xcsr *h, const char *path, const void *expected, size_t expected_len,
                       const void *data, size_t len, uint32_t *done)
{
    XCSR_ENTER(h);
    int rc = connect_store(h);
    for (int tries = 0; !rc; tries++) {
        rc = swap_once(h, path, expected, expected_len, data, len, done);
        if (rc != -EAGAIN || tries >= 100)
            break;
        rc = 0;
    }
    return rc;
}

/* Names one after another, each with its NUL. */
static int join_names(xcsr *h, const char *path, char **names, unsigned int nr, char *buf, size_t *len)
{
    size_t room = *len;
    *len = 0;
    for (unsigned int i = 0; i < nr; i++) {
        size_t size = strlen(names[i]) + 1;
        if (*len + size <= room)
            memcpy(buf + *len, names[i], size);
        *len += size;
    }
    return *len <= room ? 0 : xcsr_fail_call(h, ENOBUFS, "xs_directory", "the names in %s have %zu bytes", path, *len);
}

int xcsr_xenstore_list(xcsr *h, const char *path, void *buf, size_t *len)
{
    XCSR_ENTER(h);
    unsigned int nr = 0;
    int rc = connect_store(h);
    if (rc)
        return rc;
    char **names = xs_directory(h->xs, XBT_NULL, path, &nr);
    if (!names)
        return xcsr_fail_call(h, errno, "xs_directory", "cannot list %s", path);
    rc = join_names(h, path, names, nr, buf, len);
    free(names);
    return rc;
}

int xcsr_domain_resume(xcsr *h, uint32_t domid)
{
    XCSR_ENTER(h);
    if (xc_domain_resume(h->xch, domid, 1))
        return xcsr_fail_call(h, errno, "xc_domain_resume", "cannot resume domain %u", domid);
    int rc = connect_store(h);
    if (!rc && !xs_resume_domain(h->xs, domid))
        rc = xcsr_fail_call(h, errno, "xs_resume_domain",
                            "domain %u runs again, but xenstored could not be told", domid);
    return rc;
}
