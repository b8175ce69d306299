#!/bin/sh
# Starts systemd as the first process of the namespaces that it finds itself in, on a root in memory with this
# machine's /usr and nothing else of it but the folders named: boot.sh FOLDER [SOURCE TARGET]...
set -eu

mount -t tmpfs -o mode=755 root "$1"
cd "$1"
shift

show() { # FOLDER TARGET
    mkdir -p "$2"
    mount --bind "$1" "$2"
    mount -o remount,bind,ro "$2"
}
show /usr usr
for name in bin sbin lib lib64; do
    ln -s "usr/$name" "$name"
done
while [ $# -gt 0 ]; do
    show "$1" "./$2"
    shift 2
done

mkdir -p proc sys dev etc/systemd/system old root home srv var/lib
mkdir -m 1777 tmp var/tmp
ln -s ../run var/run
mount -t proc -o nosuid,nodev,noexec proc proc
show proc/sys proc/sys
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs sys
mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755,nosuid dev dev
for node in null zero full random urandom tty; do
    touch "dev/$node"
    mount --bind "/dev/$node" "dev/$node"
done
ln -s pts/ptmx dev/ptmx

cp /etc/ld.so.cache etc/
ln -s ../usr/lib/os-release etc/os-release
echo controller > etc/hostname
echo 0123456789abcdef0123456789abcdef > etc/machine-id
printf '%s\n' root:x:0:0::/root:/bin/sh stunet:x:990:990::/var/lib/stunet:/usr/sbin/nologin > etc/passwd
printf '%s\n' root:x:0: stunet:x:990: > etc/group
# No more than a service starts and logs with; whatever else this machine has installed stays out.
for unit in sysinit.target basic.target multi-user.target shutdown.target sockets.target time-sync.target \
    network-online.target systemd-journald.service systemd-journald.socket systemd-journald-dev-log.socket; do
    ln -s "/usr/lib/systemd/system/$unit" etc/systemd/system/
done
mkdir etc/systemd/system/sysinit.target.wants
ln -s ../systemd-journald.service etc/systemd/system/sysinit.target.wants/

pivot_root . old
umount -l /old
exec env -i PATH=/usr/sbin:/usr/bin container=test SYSTEMD_UNIT_PATH=/etc/systemd/system \
    setpriv --bounding-set=-sys_time,-sys_module,-sys_rawio,-syslog \
    /usr/lib/systemd/systemd --system --unit=multi-user.target --log-target=journal --show-status=no
