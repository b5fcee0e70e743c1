# Builds the kernel inside a tree of the locked packages: /sources is Debian's archive, /configuration and /patches are
# ours, /out is what comes of it. Nothing of the machine around it is seen but its processors and /dev/null.
set -eu
export LC_ALL=C PATH=/usr/bin KBUILD_BUILD_USER=anchorhold KBUILD_BUILD_HOST=anchorhold
export KBUILD_BUILD_TIMESTAMP='2026-01-01 00:00:00 UTC' KBUILD_BUILD_VERSION=1
mkdir -p /build /out /tmp
cd /build
echo "step: unpacking the sources"
# Of drivers, processors and texts that no option of ours asks for, only what Kconfig and make read.
tar --extract --xz --file /sources --strip-components=1 --no-same-owner \
    --exclude='*/Documentation/*.rst' --exclude='*/Documentation/*.yaml' --exclude='*/Documentation/*.txt' \
    --exclude='*/arch/[a-w]*/*.[chS]' --exclude='*/arch/[a-w]*/*.dts*' --exclude='*/drivers/gpu/*.[ch]' \
    --exclude='*/drivers/media/*.[ch]' --exclude='*/drivers/net/*/*.[ch]' --exclude='*/drivers/staging/*.[ch]' \
    --exclude='linux-source-*/sound/*.[ch]' --exclude='*/tools/testing'
for each in /patches/*; do
    echo "step: applying ${each#/patches/}"
    patch --strip=1 --silent < "$each"
done
echo "step: configuring"
make --silent KCONFIG_ALLCONFIG=/configuration allnoconfig
cp .config /out/config
make --silent kernelrelease > /out/release
echo "step: compiling"
make --jobs="$JOBS" bzImage
cp arch/x86/boot/bzImage /out/vmlinuz
