#!/bin/sh
# The install steps of the image, apart from the Dockerfile so that CI can run them on a machine without Docker.
#
#   install.sh system LINK            Debian packages that the program uses at run time; LINK will point to
#                                     jemalloc, wherever this architecture keeps it
#   install.sh compiler               Debian packages that `python` needs to compile
#   install.sh python PREFIX SOURCE   a virtual environment at PREFIX with the program built from SOURCE, its byte
#                                     path compiled, and what it depends on: nothing for tests, no pip
set -eu

usage() {
    sed -n 's/^#   //p' "$0" >&2
    exit 2
}

install_packages() {
    export DEBIAN_FRONTEND=noninteractive
    apt-get -q -o DPkg::Lock::Timeout=120 update
    apt-get -q -y -o DPkg::Lock::Timeout=120 install --no-install-recommends "$@"
}

install_system() {
    install_packages libjemalloc2
    ln -sf "$(dpkg -L libjemalloc2 | grep -m 1 '/libjemalloc\.so\.2$')" "$1"
}

install_python() {
    prefix=$1 source=$2
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    # Compiling leaves its results beside the sources, where they would go on to shadow them: so in a copy.
    mkdir "$scratch/source" "$scratch/wheels"
    cp -R "$source/pyproject.toml" "$source/README.md" "$source/pyproxy" "$scratch/source"
    HATCH_BUILD_HOOKS_ENABLE=1 python3 -m pip wheel --quiet --no-cache-dir --no-deps \
        --wheel-dir "$scratch/wheels" "$scratch/source"
    python3 -m venv --without-pip "$prefix"
    python3 -m pip --python "$prefix/bin/python" install --quiet --no-cache-dir --only-binary :all: \
        "$scratch"/wheels/*.whl
}

case "${1-} $#" in
    "system 2") install_system "$2" ;;
    "compiler 1") install_packages gcc libc6-dev ;;
    "python 3") install_python "$2" "$3" ;;
    *) usage ;;
esac
