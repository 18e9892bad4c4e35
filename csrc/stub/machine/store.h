/* The store. */
#ifndef XCSR_STUB_MACHINE_STORE_H
#define XCSR_STUB_MACHINE_STORE_H

#include "stub/machine/base.h"

int st_store_set(const char *path, const char *value);
/* NULL if there is no such node. */
const char *st_store_get(const char *path);
void st_store_remove(const char *prefix);
void st_store_clear(void);
/* In a forked child: empty, and no handle is open. */
void st_store_abandon(void);

#endif
