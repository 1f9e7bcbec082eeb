#!/bin/sh
# First process of the guest: the file systems of the kernel, the modules in their order, then a shell of root's on the
# second serial line, which it reads like a script: without a prompt. Kept to what busybox has.
export PATH=/usr/sbin:/usr/bin:/busybox HOME=/root LC_ALL=C TMPDIR=/tmp
/usr/bin/busybox mkdir -p /proc /sys /dev /tmp /run /var /root /busybox
/usr/bin/busybox mount -t proc proc /proc
/usr/bin/busybox mount -t sysfs sys /sys
/usr/bin/busybox mount -t devtmpfs dev /dev
/usr/bin/busybox --install -s /busybox
mkdir -p /dev/pts /dev/shm /run/lock
mount -t devpts pts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tmpfs tmp /tmp
ln -s /run /var/run
ln -s /run/lock /var/lock
ln -s /proc/self/fd /dev/fd
ip link set lo up
while read -r module; do
    insmod "$module" || echo "guest: cannot load $module" >/dev/console
done </modules
stty -F /dev/ttyS1 raw -echo
exec setsid /bin/sh -c 'echo "guest ready"; exec /bin/sh /dev/ttyS1' </dev/ttyS1 >/dev/ttyS1 2>&1
