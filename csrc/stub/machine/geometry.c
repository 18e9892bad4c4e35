/* PV guests of 64 and of 32 bits, as a table. */
#include "stub/machine/geometry.h"

#define ASSIST_BOTH  0x34UL             /* writable_pagetables, architectural_iopl, runstate_update_flag */
#define ASSIST_64    (1UL << 32)        /* m2p_strict */
#define ASSIST_32    0x0bUL             /* 4gb_segments and its notify, pae_extended_cr3 */

#define SHARED(type)                                                                                     \
    { offsetof(type, evtchn_pending), offsetof(type, evtchn_mask), sizeof(((type *)0)->evtchn_mask),     \
      offsetof(type, wc_version), offsetof(type, wc_sec), offsetof(type, arch) }

static const struct st_geometry geometries[] = {
    { 8, 4, 512, ~0UL, ASSIST_BOTH | ASSIST_64, SHARED(shared_info_x86_64_t) },
    { 4, 3, 1024, 0xffffffffUL, ASSIST_BOTH | ASSIST_32, SHARED(shared_info_x86_32_t) },
};

_Static_assert(offsetof(shared_info_x86_32_t, arch.p2m_generation) == offsetof(shared_info_x86_32_t, arch)
               + ST_P2M_GENERATION * sizeof(uint32_t), "fields are words in the order of enum st_arch_field");
_Static_assert(offsetof(shared_info_x86_64_t, arch.p2m_generation) == offsetof(shared_info_x86_64_t, arch)
               + ST_P2M_GENERATION * sizeof(uint64_t), "fields are words in the order of enum st_arch_field");

const struct st_geometry *st_geometry(unsigned width)
{
    for (unsigned i = 0; i < sizeof(geometries) / sizeof(geometries[0]); i++)
        if (geometries[i].width == width)
            return &geometries[i];
    return NULL;
}
