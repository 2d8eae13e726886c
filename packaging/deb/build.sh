#!/usr/bin/env bash
# Builds dist/auscult_VERSION_ARCH.deb for the Debian or Ubuntu that it runs on. `make deb` does it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
root=$PWD

missing=()
for package in debhelper dpkg-dev python3-venv; do
  dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  echo "The package cannot be built without these: sudo apt-get install ${missing[*]}" >&2
  exit 1
fi

version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' agent/__init__.py)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tree=$work/auscult-$version
mkdir -p "$tree"
cp -r agent trainer export plant configs systemd packaging pyproject.toml README.md LICENSE "$tree"
cp -r packaging/deb "$tree/debian"
find "$tree" -name __pycache__ -type d -prune -exec rm -rf {} +
# AUSCULT_DEB_REVISION: the same version, built again.
cat > "$tree/debian/changelog" <<CHANGES
auscult ($version${AUSCULT_DEB_REVISION:+"+$AUSCULT_DEB_REVISION"}) unstable; urgency=medium

  * See CHANGELOG.md.

 -- The auscult authors <auscult@localhost>  $(date -R -d "@${SOURCE_DATE_EPOCH:-$(stat -c %Y CHANGELOG.md)}")
CHANGES
(cd "$tree" && dpkg-buildpackage --build=binary --no-sign --no-check-builddeps >"$work/log" 2>&1) || {
  tail -40 "$work/log" >&2
  exit 1
}
mkdir -p "$root/dist"
cp "$work"/auscult_*.deb "$root/dist/"
ls "$root"/dist/auscult_*.deb
