/* Entries of page tables. */
#ifndef XCSR_STUB_MACHINE_PTE_H
#define XCSR_STUB_MACHINE_PTE_H

#include "stub/machine/base.h"

#define ST_PTE_PRESENT  0x001UL
#define ST_PTE_RW       0x002UL
#define ST_PTE_USER     0x004UL
#define ST_PTE_ACCESSED 0x020UL
#define ST_PTE_DIRTY    0x040UL
#define ST_PTE_PSE      0x080UL
#define ST_PTE_NX       (1UL << 63)
#define ST_PTE_FRAME    0x000ffffffffff000UL

#define ST_TABLE_PTE    (ST_PTE_PRESENT | ST_PTE_RW | ST_PTE_USER | ST_PTE_ACCESSED | ST_PTE_DIRTY)

#define ST_XEN_SLOT_FIRST 256UL         /* of an L4 table: Xen's own part of the address space */
#define ST_XEN_SLOT_LAST  271UL
#define ST_PAE_SLOTS      4UL           /* of an L3 table of a 32-bit guest; Xen clears the others */
#define ST_PAE_XEN_L2     3UL           /* of these: the L2 table behind it has Xen's slots, from here on: */
#define ST_PAE_XEN_SLOT   428UL         /* 0xf5800000 */

#endif
