/*
 * A guest as data: what the panel asks for. Plain declarations only, because cffi reads this text, too (lines that
 * start with '#' are dropped for it).
 */
#ifndef XCSR_STUB_KERNEL_DESCRIBED_H
#define XCSR_STUB_KERNEL_DESCRIBED_H

#include <stdbool.h>
#include <stdint.h>

typedef enum {
    STUB_P2M_LINEAR = 0,    /* p2m_cr3/p2m_vaddr only, frame_list_list ~0 (recent Linux) */
    STUB_P2M_BOTH = 1,      /* the three-level tree as well */
    STUB_P2M_TREE = 2       /* the tree only: p2m_cr3 is 0 */
} stub_p2m_kind;

typedef enum {
    STUB_SUSPEND_OK = 0,
    STUB_SUSPEND_IGNORE = 1,    /* never looks at control/shutdown */
    STUB_SUSPEND_CRASH = 2,     /* acknowledges, then crashes */
    STUB_SUSPEND_POWEROFF = 3,  /* acknowledges, then shuts down for good */
    STUB_SUSPEND_ACK_ONLY = 4   /* acknowledges, then goes on running */
} stub_suspend_kind;

typedef struct {
    uint64_t pages;             /* pfns with memory, before holes */
    uint64_t span;              /* pfns over which that memory is spread, >= pages */
    uint64_t max_pages;         /* pages it may own, as Xen says; at least pages */
    uint64_t spare;             /* pfns without memory that the p2m covers beyond the span */
    double holes;               /* share of the pages that is ballooned out, 0 to below 1 */
    uint64_t p2m_vaddr;         /* page aligned, kernel half, outside Xen's hole */
    uint64_t seed;
    uint64_t offline_vcpus;     /* bit mask */
    uint64_t hot;               /* how many pages the guest writes to; 0: all data pages */
    uint64_t rate;              /* writer thread: writes a second; 0: no thread */
    uint32_t width;             /* of PV: bytes of a word, 8 or 4 */
    uint32_t vcpus;             /* 1 to 64, online and offline */
    uint32_t writes;            /* data writes a tick */
    uint32_t pt_updates;        /* page-table updates a tick; of HVM and PVH: pages that leave or come back */
    uint32_t msrs;              /* MSRs a vcpu has state in, at most 8 */
    uint32_t xsave;             /* bytes of a vcpu's extended state, 0: no XSAVE */
    uint32_t ack_polls;         /* calls until the guest acknowledges control/shutdown */
    uint32_t suspend_polls;     /* calls from there until it is suspended */
    stub_p2m_kind p2m_kind;
    stub_suspend_kind suspend;
    bool share_invalid;         /* p2m pages without any memory share one page, as Linux's do */
    bool map_shared_info;       /* while it runs, a PTE refers to shared_info, as Linux's fixmap */
    bool packed;                /* tables and p2m pages are its first pages, in a row, and not anywhere */
    bool unfilled;              /* data pages hold whatever their frames do */
    char name[64];              /* /local/domain/ID/name; empty: "stub-ID" */
} stub_guest_config;

typedef struct {
    uint64_t vram;              /* pages of video memory, with a device model */
    uint64_t pod;               /* pages of the memory that are populated on demand: its last ones */
    uint64_t pod_cache;         /* pages that Xen has for them */
    uint32_t devmodel;          /* writes of the device model a tick */
    uint32_t balloon_every;     /* pages leave or come back only every so many ticks, at least 1 */
    bool device_model;          /* HVM; else PVH */
    bool pv_drivers;            /* it looks at control/shutdown; PVH always does */
    bool asleep;                /* ACPI S3 */
    bool viridian;
    bool compact;               /* video memory and special pages right behind its RAM, not below 4 GiB */
    bool devmodel_goes_on;      /* the device model writes until it is stopped, whatever the guest does */
} stub_hvm_config;

#endif
