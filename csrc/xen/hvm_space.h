/* Internal: where an HVM guest's devices and special pages are, in gfns. Its memory ends below, and goes on above 4 GiB. */
#ifndef XCSR_HVM_SPACE_H
#define XCSR_HVM_SPACE_H

#define HVM_DEVICES 0xf0000ull
#define HVM_DEVICES_END 0x100000ull

#endif
