/* Internal: Xen's releases: what the table says of one, and which one runs. */
#ifndef XCSR_LOADER_RELEASE_H
#define XCSR_LOADER_RELEASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RELEASE(major, minor) ((uint32_t)(major) << 16 | (minor))
#define RELEASE_MAJOR(release) ((release) >> 16)
#define RELEASE_MINOR(release) ((release) & 0xffff)

struct release {
    uint32_t minor;
    uint32_t domctl;   /* version of the interface */
    const char *store; /* libxenstore's soname */
    size_t domaininfo; /* sizeof(xc_domaininfo_t) */
};

/* The release's line in the table. One that is not there: the nearest line, and *known is false. */
const struct release *release_find(uint32_t release, bool *known);
/* The n-th newest of the table, from 0 on; 0: there is none. */
uint32_t release_newest(uint32_t n);

#endif
