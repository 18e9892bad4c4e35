/*
 * What every file of the machine begins with: Xen's headers, numbers, the lock, errors. Everything in the
 * machine's and the kernel's headers is called with the machine's lock held unless it says otherwise, and
 * returns 0 or -errno unless it says otherwise.
 */
#ifndef XCSR_STUB_MACHINE_BASE_H
#define XCSR_STUB_MACHINE_BASE_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#include <xenctrl.h>
#include <xenguest.h>
#include <xenforeignmemory.h>
#include <xenstore.h>

#include "stub/machine/described.h"

#define ST_PAGE_SHIFT  12
#define ST_PAGE_SIZE   (1UL << ST_PAGE_SHIFT)
#define ST_ENTRIES     512UL            /* entries of a page table, of a p2m page */
#define ST_NONE        (~0UL)           /* no pfn, no mfn; also the p2m and m2p entry that says so */
#define ST_M2P_SHARED  (~1UL)           /* m2p entry of a frame shared between Xen and a guest */

void st_lock(void);
void st_unlock(void);
static inline void st_unlock_at_end(const char *held)
{
    (void)held;
    st_unlock();
}
/* Takes the lock, and gives it back at the end of the function. */
#define ST_LOCKED __attribute__((cleanup(st_unlock_at_end), unused)) const char st_held = (st_lock(), 1)

/* Puts a number at the end of a list of nr, for which there is room; -ENOMEM: it is as it was. */
int st_list_add(uint64_t **list, uint64_t *nr, uint64_t *room, uint64_t number);
/* Keeps the text for the panel; returns -error. */
int st_error(int error, const char *format, ...) __attribute__((format(printf, 2, 3)));
const char *st_error_text(void);

#endif
