/* A PC's memory, as Xen's domain builder lays it out. */
#include "stub/kernel/hvm/layout.h"

uint64_t st_layout_ram(const stub_hvm_config *hvm, uint64_t i)
{
    uint64_t hole = hvm->device_model ? ST_VGA_END - ST_VGA_FIRST : 0, low_end = hvm->device_model ? ST_VRAM : ST_LAPIC;
    uint64_t gfn = i < ST_VGA_FIRST ? i : i + hole;

    return gfn < low_end ? gfn : gfn - low_end + ST_ABOVE_4G;
}

uint64_t st_layout_special(const stub_guest_config *config, const stub_hvm_config *hvm, enum st_special which)
{
    return (hvm->compact ? config->pages + ST_NR_IOREQ : ST_SPECIALS) + which;
}

uint64_t st_layout_ioreq(const stub_guest_config *config, const stub_hvm_config *hvm)
{
    return st_layout_special(config, hvm, 0) - ST_NR_IOREQ;
}

uint64_t st_layout_vram(const stub_guest_config *config, const stub_hvm_config *hvm)
{
    return hvm->compact ? st_layout_special(config, hvm, ST_NR_SPECIALS) : ST_VRAM;
}

uint64_t st_layout_nr_ram(const stub_guest_config *config, const stub_hvm_config *hvm)
{
    return config->pages - (hvm->device_model ? ST_VGA_END - ST_VGA_FIRST : 0);
}

uint64_t st_layout_pages(const stub_guest_config *config, const stub_hvm_config *hvm)
{
    uint64_t special = ST_NR_SPECIALS + (hvm->device_model ? ST_NR_IOREQ : 0);

    return st_layout_nr_ram(config, hvm) + hvm->vram + special;
}
