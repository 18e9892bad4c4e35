/* Commands of the version hypercall (Xen public interface). See ../README. */
#ifndef XCSR_ABI_XEN_VERSION_H
#define XCSR_ABI_XEN_VERSION_H

#include "xen.h"

#define XENVER_version      0   /* no argument; the result is major << 16 | minor */

#define XENVER_extraversion 1
typedef char xen_extraversion_t[16];

#define XENVER_capabilities 3
typedef char xen_capabilities_info_t[1024];

#endif
