/* Internal face of the source: scattered reads into the guest. */
#ifndef XCSR_SOURCE_H
#define XCSR_SOURCE_H

#include "xcsr_api.h"

#include <sys/uio.h>

/* Starts filling the scatter; the array stays the caller's and is changed, until 0 or an error. */
int source_readv(xcsr_source *s, struct iovec *iov, uint32_t nr);
int source_go_on(xcsr_source *s);

#endif
