#!/bin/busybox sh
# First process of a guest. Ends in the agent on the console; the guest's drivers are loaded and the devices passed
# through to it are found as in any distribution, except that here it is one after the other and not by udev.
/bin/busybox --install -s
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
ip link set lo up

# From the kernel's command line.
case "$frontend" in
    kernel) modules="xen-pcifront nvme e1000e e1000 igbvf ahci sd_mod" ;;
    instrument) modules="xen-gntalloc xen-evtchn" ;;
esac
for module in $modules; do modprobe $module; done

# From here on the console carries the agent's lines; the kernel's go on into its own log (dmesg).
dmesg -n 1
exec xenpcid-testbed-agent serve /dev/hvc0
