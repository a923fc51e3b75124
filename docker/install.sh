#!/bin/sh
# The install steps of the image, apart from the Dockerfile so that CI can run them on a machine without Docker.
#
#   install.sh system LINK            Debian packages that the program uses at run time; LINK will point to
#                                     jemalloc, wherever this architecture keeps it
#   install.sh python PREFIX SOURCE   a virtual environment at PREFIX with the program built from SOURCE and what
#                                     it depends on: nothing for tests, no pip, no compiler needed
set -eu

usage() {
    sed -n 's/^#   //p' "$0" >&2
    exit 2
}

install_system() {
    link=$1
    export DEBIAN_FRONTEND=noninteractive
    apt-get -q -o DPkg::Lock::Timeout=120 update
    apt-get -q -y -o DPkg::Lock::Timeout=120 install --no-install-recommends libjemalloc2
    ln -sf "$(dpkg -L libjemalloc2 | grep -m 1 '/libjemalloc\.so\.2$')" "$link"
}

install_python() {
    prefix=$1 source=$2
    wheels=$(mktemp -d)
    trap 'rm -rf "$wheels"' EXIT
    python3 -m pip wheel --quiet --no-cache-dir --no-deps --wheel-dir "$wheels" "$source"
    python3 -m venv --without-pip "$prefix"
    python3 -m pip --python "$prefix/bin/python" install --quiet --no-cache-dir --only-binary :all: "$wheels"/*.whl
}

case "${1-} $#" in
    "system 2") install_system "$2" ;;
    "python 3") install_python "$2" "$3" ;;
    *) usage ;;
esac
