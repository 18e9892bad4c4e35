/*
 * The store: a list of nodes. A transaction keeps what it writes to itself and fails with
 * EAGAIN at its end if anything was written in between, as xenstored may.
 */
#include "stub/machine/domain.h"
#include "stub/machine/entry.h"
#include "stub/machine/frames.h"
#include "stub/machine/store.h"

struct node {
    struct node *next;
    char *path, *value;
};

struct transaction {
    struct transaction *next;
    struct xs_handle *owner;
    uint32_t id;
    uint64_t generation;        /* of the store when it began */
    struct node *writes;
};

struct xs_handle {
    struct xs_handle *next;
};

static struct node *store;
static struct transaction *transactions;
static struct xs_handle *handles;
static uint64_t generation;
static uint32_t next_transaction = 1;

static struct node *find(struct node *list, const char *path)
{
    while (list && strcmp(list->path, path) != 0)
        list = list->next;
    return list;
}

static int set_in(struct node **list, const char *path, const char *value, size_t length)
{
    struct node *n = find(*list, path);
    char *copy = calloc(1, length + 1);

    if (!copy)
        return -ENOMEM;
    if (length)
        memcpy(copy, value, length);
    if (!n) {
        n = calloc(1, sizeof(*n));
        if (n)
            n->path = strdup(path);
        if (!n || !n->path) {
            free(n);
            free(copy);
            return -ENOMEM;
        }
        n->next = *list;
        *list = n;
    }
    free(n->value);
    n->value = copy;
    return 0;
}

static void free_node(struct node *n)
{
    free(n->path);
    free(n->value);
    free(n);
}

static void free_nodes(struct node **list)
{
    while (*list) {
        struct node *n = *list;

        *list = n->next;
        free_node(n);
    }
}

int st_store_set(const char *path, const char *value)
{
    generation++;
    return set_in(&store, path, value, strlen(value));
}

const char *st_store_get(const char *path)
{
    const struct node *n = find(store, path);

    return n ? n->value : NULL;
}

static bool is_below(const char *path, const char *prefix)
{
    size_t length = strlen(prefix);

    return strncmp(path, prefix, length) == 0 && (path[length] == '/' || !path[length]);
}

void st_store_remove(const char *prefix)
{
    struct node **link = &store;

    generation++;
    while (*link) {
        struct node *n = *link;

        if (!is_below(n->path, prefix)) {
            link = &n->next;
            continue;
        }
        *link = n->next;
        free_node(n);
    }
}

void st_store_clear(void)
{
    generation++;
    free_nodes(&store);
}

/* ---- libxenstore ---- */

static bool handle_valid(const struct xs_handle *handle)
{
    for (const struct xs_handle *h = handles; h; h = h->next)
        if (h == handle)
            return true;
    return false;
}

static struct transaction *find_transaction(const struct xs_handle *owner, xs_transaction_t id)
{
    struct transaction *t = transactions;

    while (t && (t->id != id || t->owner != owner))
        t = t->next;
    return t;
}

static void drop_transaction(struct transaction *t)
{
    struct transaction **link = &transactions;

    while (*link != t)
        link = &(*link)->next;
    *link = t->next;
    free_nodes(&t->writes);
    free(t);
    st_usage.xs_transactions--;
}

void st_store_abandon(void)
{
    while (transactions)
        drop_transaction(transactions);
    handles = NULL;
    st_store_clear();
}

struct xs_handle *xs_open(unsigned long flags)
{
    struct xs_handle *handle;
    int rc = st_begin_quiet(ST_FN_xs_open);

    (void)flags;
    if (rc) {
        st_refused(ST_FN_xs_open, NULL, rc);
        return NULL;
    }
    handle = calloc(1, sizeof(*handle));
    if (handle) {
        handle->next = handles;
        handles = handle;
        st_usage.xs_handles++;
    }
    st_end(ST_FN_xs_open, NULL, handle ? 0 : -ENOMEM);
    return handle;
}

static void close_handle(struct xs_handle *handle)
{
    struct xs_handle **link = &handles;
    struct transaction *next;

    while (*link && *link != handle)
        link = &(*link)->next;
    if (!*link)
        return;
    *link = handle->next;
    for (struct transaction *t = transactions; t; t = next) {
        next = t->next;
        if (t->owner == handle)
            drop_transaction(t);
    }
    free(handle);
    st_usage.xs_handles--;
}

void xs_close(struct xs_handle *xsh)
{
    if (st_begin_quiet(ST_FN_xs_close))
        st_lock();
    if (xsh)
        close_handle(xsh);
    st_end(ST_FN_xs_close, NULL, 0);
}

/* Handle, path and transaction of a call; *t is NULL outside of a transaction. */
static int check_call(struct xs_handle *h, xs_transaction_t id, const char *path, struct transaction **t)
{
    *t = NULL;
    if (!handle_valid(h))
        return -EBADF;
    if (path[0] != '/')
        return -EINVAL;
    if (id == XBT_NULL)
        return 0;
    *t = find_transaction(h, id);
    return *t ? 0 : -ENOENT;
}

static int read_node(struct xs_handle *h, xs_transaction_t id, const char *path, char **value)
{
    struct transaction *t;
    const struct node *n = NULL;
    int rc = check_call(h, id, path, &t);

    if (rc)
        return rc;
    if (t)
        n = find(t->writes, path);
    if (!n)
        n = find(store, path);
    if (!n)
        return -ENOENT;
    *value = strdup(n->value);
    return *value ? 0 : -ENOMEM;
}

void *xs_read(struct xs_handle *h, xs_transaction_t t, const char *path, unsigned int *len)
{
    char *value = NULL;
    int rc = st_begin(ST_FN_xs_read);

    if (rc) {
        st_refused(ST_FN_xs_read, NULL, rc);
        return NULL;
    }
    rc = read_node(h, t, path, &value);
    if (!rc && len)
        *len = (unsigned)strlen(value);
    st_end(ST_FN_xs_read, NULL, rc);
    return value;
}

/* The name below a node that a path leads through; NULL if it does not. */
static const char *child_of(const char *path, const char *node, size_t *length)
{
    size_t at = strcmp(node, "/") == 0 ? 0 : strlen(node);

    if (strncmp(path, node, at) != 0 || path[at] != '/' || !path[at + 1])
        return NULL;
    *length = strcspn(path + at + 1, "/");
    return path + at + 1;
}

static bool listed(char *const *names, unsigned count, const char *name, size_t length)
{
    for (unsigned i = 0; i < count; i++)
        if (strlen(names[i]) == length && memcmp(names[i], name, length) == 0)
            return true;
    return false;
}

/* All in one piece of memory: the pointers, then the names. */
static int list_children(const char *path, char ***result, unsigned *count)
{
    size_t nodes = 0, length, bytes = 0;
    char **names, *at;

    for (const struct node *n = store; n; n = n->next)
        if (child_of(n->path, path, &length))
            nodes++, bytes += length + 1;
    if (!nodes && !find(store, path))
        return -ENOENT;
    names = malloc(nodes * sizeof(*names) + bytes + 1);
    if (!names)
        return -ENOMEM;
    at = (char *)(names + nodes);
    *count = 0;
    for (const struct node *n = store; n; n = n->next) {
        const char *name = child_of(n->path, path, &length);

        if (!name || listed(names, *count, name, length))
            continue;
        names[(*count)++] = memcpy(at, name, length);
        at[length] = 0;
        at += length + 1;
    }
    *result = names;
    return 0;
}

/* What a transaction has written itself is not among them before it ends. */
char **xs_directory(struct xs_handle *h, xs_transaction_t t, const char *path, unsigned int *num)
{
    struct transaction *in;
    char **names = NULL;
    int rc = st_begin(ST_FN_xs_directory);

    if (rc) {
        st_refused(ST_FN_xs_directory, NULL, rc);
        return NULL;
    }
    rc = check_call(h, t, path, &in);
    rc = rc ? rc : list_children(path, &names, num);
    st_end(ST_FN_xs_directory, NULL, rc);
    return names;
}

static int write_node(struct xs_handle *h, xs_transaction_t id, const char *path, const void *data,
                      unsigned len)
{
    struct transaction *t;
    int rc = check_call(h, id, path, &t);

    if (rc)
        return rc;
    if (t)
        return set_in(&t->writes, path, data, len);
    generation++;
    return set_in(&store, path, data, len);
}

bool xs_write(struct xs_handle *h, xs_transaction_t t, const char *path, const void *data, unsigned int len)
{
    int rc = st_begin(ST_FN_xs_write);

    if (rc)
        return st_refused(ST_FN_xs_write, NULL, rc) == 0;
    return st_end(ST_FN_xs_write, NULL, write_node(h, t, path, data, len)) == 0;
}

static int start_transaction(struct xs_handle *h, xs_transaction_t *id)
{
    struct transaction *t;

    if (!handle_valid(h))
        return -EBADF;
    t = calloc(1, sizeof(*t));
    if (!t)
        return -ENOMEM;
    *t = (struct transaction){ transactions, h, next_transaction++, generation, NULL };
    transactions = t;
    st_usage.xs_transactions++;
    *id = t->id;
    return 0;
}

xs_transaction_t xs_transaction_start(struct xs_handle *h)
{
    xs_transaction_t id = XBT_NULL;
    int rc = st_begin(ST_FN_xs_transaction_start);

    if (rc) {
        st_refused(ST_FN_xs_transaction_start, NULL, rc);
        return XBT_NULL;
    }
    st_end(ST_FN_xs_transaction_start, NULL, start_transaction(h, &id));
    return id;
}

static int commit(const struct transaction *t)
{
    if (t->generation != generation)
        return -EAGAIN;
    for (const struct node *n = t->writes; n; n = n->next) {
        int rc = st_store_set(n->path, n->value);

        if (rc)
            return rc;
    }
    return 0;
}

static int end_transaction(struct xs_handle *h, xs_transaction_t id, bool aborted)
{
    struct transaction *t = handle_valid(h) ? find_transaction(h, id) : NULL;
    int rc;

    if (!t)
        return handle_valid(h) ? -ENOENT : -EBADF;
    rc = aborted ? 0 : commit(t);
    drop_transaction(t);
    return rc;
}

/* However it ends, the transaction is over. */
bool xs_transaction_end(struct xs_handle *h, xs_transaction_t t, bool abort)
{
    int rc = st_begin(ST_FN_xs_transaction_end);

    if (rc) {
        st_lock();
        end_transaction(h, t, true);
        st_unlock();
        return st_refused(ST_FN_xs_transaction_end, NULL, rc) == 0;
    }
    return st_end(ST_FN_xs_transaction_end, NULL, end_transaction(h, t, abort)) == 0;
}

bool xs_resume_domain(struct xs_handle *h, unsigned int domid)
{
    int rc = st_begin(ST_FN_xs_resume_domain);

    if (rc)
        return st_refused(ST_FN_xs_resume_domain, NULL, rc) == 0;
    rc = !handle_valid(h) ? -EBADF : st_domain_find(domid) ? 0 : -ENOENT;
    return st_end(ST_FN_xs_resume_domain, NULL, rc) == 0;
}
