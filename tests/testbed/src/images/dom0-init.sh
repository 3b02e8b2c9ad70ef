#!/bin/busybox sh
# First process of dom0. Ends in the agent, so an agent that answers means that all of this has worked.
/bin/busybox --install -s
export PATH=/usr/sbin:/usr/bin:/sbin:/bin

fail() {
    echo "testbed: dom0 cannot start: $*" > /dev/console
    exec sh < /dev/console > /dev/console 2>&1
}

mount -t proc proc /proc && mount -t sysfs sysfs /sys && mount -t devtmpfs devtmpfs /dev || fail "mounting /dev"
mkdir -p /dev/pts /dev/virtio-ports
mount -t devpts devpts /dev/pts || fail "mounting /dev/pts"
ip link set lo up

# The host: files by 9p, commands by virtio ports.
for module in virtio_pci virtio_console 9pnet_virtio 9p; do modprobe $module || fail "loading $module"; done
mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144 host /host || fail "mounting the host's folder"
mount -t tmpfs tmpfs /run
mkdir -p /run/xen /run/xenstored /run/lock
tries=0
until [ -e /dev/virtio-ports/dom0 ]; do
    for port in /sys/class/virtio-ports/*; do
        [ -e $port/name ] && ln -sf ../${port##*/} /dev/virtio-ports/$(cat $port/name)
    done
    tries=$((tries + 1)); [ $tries -lt 200 ] || fail "no virtio port called dom0"
    [ -e /dev/virtio-ports/dom0 ] || sleep 0.05
done

# Without Xen this is a Linux like any other.
[ "$(cat /sys/hypervisor/type 2> /dev/null)" = xen ] || exec xenpcid-testbed-agent serve /dev/virtio-ports/dom0

# Xen's side of dom0, in the order of Debian's /etc/init.d/xen.
for module in xen-privcmd xen-evtchn xen-gntdev xen-gntalloc xenfs; do modprobe $module || fail "loading $module"; done
mount -t xenfs xenfs /proc/xen || fail "mounting /proc/xen"
xenstored --pid-file /run/xenstored.pid || fail "starting xenstored"
tries=0
until xenstore-exists / 2> /dev/null; do
    tries=$((tries + 1)); [ $tries -lt 200 ] || fail "xenstored does not answer"
    sleep 0.05
done
xen-init-dom0 || fail "xen-init-dom0"
mkdir -p /host/console
xenconsoled --log=guest --log-dir=/host/console --pid-file=/run/xenconsoled.pid || fail "starting xenconsoled"

exec xenpcid-testbed-agent serve /dev/virtio-ports/dom0
