/* Loading: the libraries are opened, the release is compared with the hypervisor's, and each function is looked up. */
#include "loader/calls.h"
#include "loader/loader_api.h"

#include <pthread.h>
#include <stddef.h>
#include <stdio.h>

struct function { /* a line of the table, for looking up */
    const char *symbol;
    enum library_id home;
    uint32_t first, last; /* minor numbers */
    size_t member;        /* in struct calls */
};

#define SAME_LINE(library, result, name, parameters, arguments) {#name, library, 0, NEWEST, offsetof(struct calls, name)},
#define FORM_LINE(library, symbol, first, last, name, result, parameters) \
    {#symbol, library, first, last, offsetof(struct calls, name)},
static const struct function functions[] = {LOADER_SAME(SAME_LINE) LOADER_FORMS(FORM_LINE)};

struct calls loaded_calls;
static struct libraries loaded;
static uint32_t loaded_running;
static pthread_mutex_t loading = PTHREAD_MUTEX_INITIALIZER;

const struct release *loaded_release(bool *known)
{
    return release_find(loaded.release, known);
}

static const char *const titles[NR_LIBRARIES] = {"libxenctrl", "libxenguest", "libxenforeignmemory", "libxenstore"};

#define NR_FUNCTIONS (sizeof functions / sizeof *functions)

/* Names what is missing in one file, the first in which anything is, as far as there is room. */
static int lacks(const struct libraries *l, const bool missing[], xcsr_error *why)
{
    char names[240], more[32] = "";
    size_t used = 0, untold = 0, first = 0;
    while (!missing[first])
        first++;
    enum library_id home = functions[first].home;
    for (size_t i = first; i < NR_FUNCTIONS; i++) {
        const char *symbol = functions[i].symbol;
        if (!missing[i] || functions[i].home != home)
            continue;
        if (used + strlen(symbol) + 3 < sizeof names)
            used += (size_t)sprintf(names + used, "%s%s", used ? ", " : "", symbol);
        else
            untold++;
    }
    if (untold)
        snprintf(more, sizeof more, " and %zu more", untold);
    return xcsr_fail(why, XCSR_E_CALL, ENOSYS, "dlsym", "%s of Xen %u.%u (%.150s) lacks %s%s", titles[home],
                     RELEASE_MAJOR(l->release), RELEASE_MINOR(l->release), library_file(l->handles[home]), names, more);
}

static int bind(const struct libraries *l, struct calls *calls, xcsr_error *why)
{
    bool missing[NR_FUNCTIONS] = {false}, known, all = true;
    uint32_t minor = release_find(l->release, &known)->minor;
    memset(calls, 0, sizeof *calls);
    for (size_t i = 0; i < NR_FUNCTIONS; i++) {
        const struct function *f = &functions[i];
        if (minor < f->first || minor > f->last)
            continue;
        void *found = libraries_find(l, f->home, f->symbol);
        memcpy((char *)calls + f->member, &found, sizeof found);
        missing[i] = !found;
        all = all && found;
    }
    return all ? 0 : lacks(l, missing, why);
}

/* Xen refuses requests of another version of its interface; with both releases in the table that is known beforehand. */
static int fits(const struct libraries *l, uint32_t running, xcsr_error *why)
{
    bool known, here;
    const struct release *library = release_find(l->release, &known), *xen = release_find(running, &here);
    if (l->release < RELEASE(4, library->minor))
        return xcsr_fail(why, XCSR_E_CALL, EACCES, "xcsr_load", "%.200s is of Xen %u.%u, and pyxcsr works with 4.%u and later",
                         library_file(l->handles[CTRL]), RELEASE_MAJOR(l->release), RELEASE_MINOR(l->release), library->minor);
    if (!known || !here || library->domctl == xen->domctl)
        return 0;
    return xcsr_fail(why, XCSR_E_CALL, EACCES, "xcsr_load",
                     "%.200s is of Xen %u.%u (domctl interface %#x), but Xen %u.%u runs here, whose is %#x",
                     library_file(l->handles[CTRL]), RELEASE_MAJOR(l->release), RELEASE_MINOR(l->release), library->domctl,
                     RELEASE_MAJOR(running), RELEASE_MINOR(running), xen->domctl);
}

static int load(const char *path, uint32_t running, xcsr_error *why)
{
    struct libraries opened;
    struct calls calls;
    int rc = libraries_open(&opened, path, running, why);
    if (rc)
        return rc;
    rc = fits(&opened, running, why);
    rc = rc ? rc : bind(&opened, &calls, why);
    if (rc) {
        libraries_close(&opened);
        return rc;
    }
    loaded_calls = calls;
    loaded_running = running;
    loaded = opened;
    return 0;
}

int xcsr_load(const char *path, uint32_t running, xcsr_error *why)
{
    memset(why, 0, sizeof *why);
    pthread_mutex_lock(&loading);
    int rc = loaded.handles[CTRL] ? 0 : load(path, running ? running : xcsr_running(), why);
    pthread_mutex_unlock(&loading);
    return rc;
}

int xcsr_loaded_now(xcsr_loaded *out)
{
    bool known;
    memset(out, 0, sizeof *out);
    if (!loaded.handles[CTRL])
        return -ENODATA;
    const struct release *line = loaded_release(&known);
    out->release = loaded.release;
    out->running = loaded_running;
    out->domctl = known ? line->domctl : 0;
    snprintf(out->ctrl, sizeof out->ctrl, "%s", library_file(loaded.handles[CTRL]));
    snprintf(out->guest, sizeof out->guest, "%s", library_file(loaded.handles[GUEST]));
    snprintf(out->foreignmemory, sizeof out->foreignmemory, "%s", library_file(loaded.handles[FMEM]));
    snprintf(out->store, sizeof out->store, "%s", library_file(loaded.handles[STORE]));
    return 0;
}
