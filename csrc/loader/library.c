/* Xen's libraries, found by dlopen. libxenctrl's and libxenguest's sonames name their release; the interfaces of the
 * others are stable. */
#include "loader/library.h"
#include "loader/release.h"
#include "loader/table.h"

#include <dlfcn.h>
#include <limits.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const struct link_map *map_of(void *handle)
{
    struct link_map *map = NULL;
    return dlinfo(handle, RTLD_DI_LINKMAP, &map) ? NULL : map;
}

const char *library_file(void *handle)
{
    const struct link_map *map = map_of(handle);
    return map && map->l_name ? map->l_name : "?";
}

/* What the file calls itself, whatever name it has been opened by; NULL: it does not say. */
static const char *soname(void *handle)
{
    const struct link_map *map = map_of(handle);
    uintptr_t strings = 0, name = 0;
    for (const ElfW(Dyn) *d = map ? map->l_ld : NULL; d && d->d_tag != DT_NULL; d++) {
        if (d->d_tag == DT_STRTAB)
            strings = d->d_un.d_ptr;
        if (d->d_tag == DT_SONAME)
            name = d->d_un.d_val;
    }
    if (!strings || !name)
        return NULL;
    if (strings < map->l_addr) /* glibc has added the address at which the file was loaded, musl has not */
        strings += map->l_addr;
    return (const char *)strings + name;
}

/* "libxenctrl.so.4.17": 4 << 16 | 17; 0: it names no release. */
static uint32_t release_in(const char *name)
{
    unsigned major, minor;
    if (name && sscanf(name, "libxenctrl.so.%u.%u", &major, &minor) == 2 && major < 0x7fff && minor < 0xffff)
        return RELEASE(major, minor);
    return 0;
}

static int cannot(xcsr_error *why, uint32_t release)
{
    const char *reason = dlerror(); /* names the file */
    if (!reason)
        reason = "no reason given";
    if (!release)
        return xcsr_fail(why, XCSR_E_CALL, ENOENT, "dlopen", "cannot load %s", reason);
    return xcsr_fail(why, XCSR_E_CALL, ENOENT, "dlopen", "cannot load a library of Xen %u.%u: %s", RELEASE_MAJOR(release),
                     RELEASE_MINOR(release), reason);
}

static void *open_release(uint32_t release, char *name, size_t room)
{
    snprintf(name, room, "libxenctrl.so.%u.%u", RELEASE_MAJOR(release), RELEASE_MINOR(release));
    return dlopen(name, RTLD_NOW | RTLD_LOCAL);
}

static void *open_newest(void)
{
    char name[64];
    void *found = NULL;
    for (uint32_t i = 0; !found && release_newest(i); i++)
        found = open_release(release_newest(i), name, sizeof name);
    return found;
}

static int open_ctrl(struct libraries *l, const char *path, uint32_t running, xcsr_error *why)
{
    char name[64];
    void *handle = path ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : running ? open_release(running, name, sizeof name) : open_newest();
    if (!handle && !path && !running)
        return xcsr_fail(why, XCSR_E_CALL, ENOENT, "dlopen",
                         "there is no libxenctrl here, of any release from 4.14 to 4.%u, and no Xen runs that could be asked for its release",
                         NEWEST);
    if (!handle)
        return cannot(why, path ? 0 : running);
    l->handles[CTRL] = handle;
    l->release = release_in(soname(handle));
    if (!l->release && !dlsym(handle, "xc_interface_open")) {
        int rc = xcsr_fail(why, XCSR_E_CALL, ENOSYS, "dlsym", "%.300s is no libxenctrl: it lacks xc_interface_open", path);
        libraries_close(l);
        return rc;
    }
    if (!l->release) /* a file that was named, and may have been built with another soname */
        l->release = running ? running : release_newest(0);
    return 0;
}

/* The library of that name beside libxenctrl's file, if libxenctrl was named by its path; else where the system has it. */
static void *open_beside(const char *ctrl, const char *name)
{
    char path[PATH_MAX];
    const char *slash = ctrl ? strrchr(ctrl, '/') : NULL;
    if (slash && snprintf(path, sizeof path, "%.*s/%s", (int)(slash - ctrl), ctrl, name) < (int)sizeof path
        && access(path, F_OK) == 0)
        return dlopen(path, RTLD_NOW | RTLD_LOCAL);
    return dlopen(name, RTLD_NOW | RTLD_LOCAL);
}

int libraries_open(struct libraries *out, const char *path, uint32_t running, xcsr_error *why)
{
    char guest[64];
    bool known;
    memset(out, 0, sizeof *out);
    int rc = open_ctrl(out, path, running, why);
    if (rc)
        return rc;
    snprintf(guest, sizeof guest, "libxenguest.so.%u.%u", RELEASE_MAJOR(out->release), RELEASE_MINOR(out->release));
    const char *names[NR_LIBRARIES] = {
        [GUEST] = guest, [FMEM] = "libxenforeignmemory.so.1", [STORE] = release_find(out->release, &known)->store};
    for (int i = GUEST; !rc && i < NR_LIBRARIES; i++) {
        out->handles[i] = open_beside(path, names[i]);
        if (!out->handles[i])
            rc = cannot(why, out->release);
    }
    if (rc)
        libraries_close(out);
    return rc;
}

void libraries_close(struct libraries *l)
{
    for (int i = NR_LIBRARIES - 1; i >= 0; i--)
        if (l->handles[i])
            dlclose(l->handles[i]);
    memset(l, 0, sizeof *l);
}

void *libraries_find(const struct libraries *l, enum library_id home, const char *symbol)
{
    void *found = dlsym(l->handles[home], symbol);
    if (!found && (home == CTRL || home == GUEST)) /* some functions have moved between the two */
        found = dlsym(l->handles[home == CTRL ? GUEST : CTRL], symbol);
    return found;
}
