/* Xen's releases, as the table has them; and the one that runs, asked by the hypercall that every Xen has. */
#include "loader/release.h"
#include "loader/loader_api.h"
#include "loader/table.h"

#include <dlfcn.h>

#define HYPERVISOR_XEN_VERSION 17 /* __HYPERVISOR_xen_version */

#define LINE(minor, domctl, store, domaininfo) {minor, domctl, store, domaininfo},
static const struct release releases[] = {LOADER_RELEASES(LINE)};
#define NR_RELEASES (sizeof releases / sizeof *releases)

const struct release *release_find(uint32_t release, bool *known)
{
    const struct release *found = &releases[0];
    for (size_t i = 0; i < NR_RELEASES; i++)
        if (RELEASE(4, releases[i].minor) <= release)
            found = &releases[i];
    *known = RELEASE(4, found->minor) == release;
    return found;
}

uint32_t release_newest(uint32_t n)
{
    return n < NR_RELEASES ? RELEASE(4, releases[NR_RELEASES - 1 - n].minor) : 0;
}

/* Without a logger of the caller's libxencall writes to standard error that there is no Xen. */
static void say_nothing(xentoollog_logger *logger, xentoollog_level level, int errnoval, const char *context,
                        const char *format, va_list al) __attribute__((format(printf, 5, 0)));

static void say_nothing(xentoollog_logger *logger, xentoollog_level level, int errnoval, const char *context,
                        const char *format, va_list al)
{
    (void)logger, (void)level, (void)errnoval, (void)context, (void)format, (void)al;
}

static xentoollog_logger quiet = {.vmessage = say_nothing};

struct xencall_handle;
typedef struct xencall_handle *open_call(xentoollog_logger *logger, unsigned open_flags);
typedef int close_call(struct xencall_handle *call);
typedef int call_2(struct xencall_handle *call, unsigned op, uint64_t a, uint64_t b);

static uint32_t ask(void *library)
{
    open_call *open = (open_call *)dlsym(library, "xencall_open");
    close_call *close = (close_call *)dlsym(library, "xencall_close");
    call_2 *call = (call_2 *)dlsym(library, "xencall2");
    if (!open || !close || !call)
        return 0;
    struct xencall_handle *handle = open(&quiet, 0);
    if (!handle)
        return 0;
    int version = call(handle, HYPERVISOR_XEN_VERSION, XENVER_version, 0);
    close(handle);
    return version > 0 ? (uint32_t)version : 0;
}

uint32_t xcsr_running(void)
{
    void *library = dlopen("libxencall.so.1", RTLD_NOW | RTLD_LOCAL);
    uint32_t version = library ? ask(library) : 0;
    if (library)
        dlclose(library);
    return version;
}
