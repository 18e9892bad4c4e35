/* Where a PC has its memory: RAM with its holes, video memory, special pages. */
#ifndef XCSR_STUB_KERNEL_HVM_LAYOUT_H
#define XCSR_STUB_KERNEL_HVM_LAYOUT_H

#include "stub/kernel/described.h"
#include "stub/machine/base.h"

#define ST_VGA_FIRST    0xa0UL          /* no RAM from here */
#define ST_VGA_END      0xc0UL          /* to here, with a device model */
#define ST_VRAM         0xf0000UL       /* video memory; with a device model RAM below 4 GiB ends here */
#define ST_MAX_VRAM     0x8000UL
#define ST_LAPIC        0xfee00UL       /* without one, here */
#define ST_ABOVE_4G     0x100000UL
#define ST_SPECIALS     0xfeff8UL       /* eight pages, and with a device model eight before them for ioreq servers */
#define ST_NR_SPECIALS  8UL
#define ST_NR_IOREQ     8UL

enum st_special { ST_SP_PAGING, ST_SP_MONITOR, ST_SP_SHARING, ST_SP_BUFIOREQ, ST_SP_STORE, ST_SP_IOREQ, ST_SP_IDENT_PT,
                  ST_SP_CONSOLE };

/* Where they are. Of a compact guest behind its RAM: it has few gfns, and a test can save it often. */
uint64_t st_layout_special(const stub_guest_config *config, const stub_hvm_config *hvm, enum st_special which);
uint64_t st_layout_ioreq(const stub_guest_config *config, const stub_hvm_config *hvm);
uint64_t st_layout_vram(const stub_guest_config *config, const stub_hvm_config *hvm);
/* The gfn of RAM page i, counted without holes. */
uint64_t st_layout_ram(const stub_hvm_config *hvm, uint64_t i);
/* How many RAM pages it has: as many as it was given, less the VGA hole. */
uint64_t st_layout_nr_ram(const stub_guest_config *config, const stub_hvm_config *hvm);
/* All its pages: RAM, video memory and special ones. */
uint64_t st_layout_pages(const stub_guest_config *config, const stub_hvm_config *hvm);

#endif
