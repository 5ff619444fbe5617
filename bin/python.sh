# Sourced by the other commands: finds a Python that can run this project and puts it into $python,
# or says in one sentence what is missing and exits 1. $folder is the caller's: relative paths that it gives start there.
folder="$PWD"
case "${GINKGO_HOME:-}" in
    "" | /* | "~"*) ;;
    *) export GINKGO_HOME="$folder/$GINKGO_HOME" ;;
esac
cd "$(dirname "$0")/.."
PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONPATH

_refuse() {
    echo "ginkgo: $1" >&2
    exit 1
}

case "$(uname -s)" in
    Linux)
        if ldd --version 2>&1 | grep -qi musl; then
            _refuse "This Linux has musl instead of glibc, for which PostgreSQL is not packaged: use a Debian, Ubuntu or Fedora image."
        fi ;;
    Darwin) ;;
    *) _refuse "This system ($(uname -s)) is not supported: use Linux with glibc, on Windows inside WSL." ;;
esac

_fits() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null
}

python=""
for _candidate in .venv/bin/python ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11; do
    if command -v "$_candidate" >/dev/null 2>&1 && _fits "$_candidate"; then
        python="$_candidate"
        break
    fi
done
if [ -z "$python" ]; then
    _found="$(python3 --version 2>/dev/null || echo "none")"
    _refuse "Python 3.11 to 3.14 is needed, found: $_found. Install one, or name it with PYTHON=/path/to/python3."
fi
