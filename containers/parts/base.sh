#!/bin/sh
# Debian bookworm with PACKAGE... into the root folder of the image stage that is being built.
# Run by %setup on the building machine, with the mirror in $MIRROR: an apptainer build argument would be
# stored in the image with the definition, and mirrors are a matter of the site that builds.
# With SOURCE_DATE_EPOCH the same packages give the same bytes.
set -eu
: "${MIRROR:?set MIRROR to a Debian mirror, e.g. MIRROR=URL apptainer build ...}"
packages=$(printf '%s,' "$@")
SOURCE_DATE_EPOCH=1735689600 mmdebstrap --quiet --variant=essential --include="${packages%,}" \
    --dpkgopt=force-unsafe-io \
    --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/info/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    --customize-hook='echo "deb http://deb.debian.org/debian bookworm main" >"$1/etc/apt/sources.list"' \
    --customize-hook='rm -rf "$1"/etc/apt/sources.list.d/* "$1"/var/log/* "$1"/var/cache/debconf/*-old' \
    bookworm - "deb $MIRROR bookworm main" "deb $MIRROR bookworm-updates main" |
    tar --extract --numeric-owner --directory "$APPTAINER_ROOTFS"
