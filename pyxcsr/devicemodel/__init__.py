"""The device model beside an HVM guest: QEMU, which writes the guest's memory behind Xen's back."""
