#!/bin/sh
# Says in one line what is missing before anything is installed. Usage: prerequisites.sh PYTHON
python=$1

refuse() {
    echo "automl: $1" >&2
    exit 1
}

command -v "$python" >/dev/null 2>&1 ||
    refuse "$python is not installed: on Debian, apt install python3-venv"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
    refuse "$python is older than Python 3.11: name a newer one, as in make demo PYTHON=python3.12"
# Debian ships venv without ensurepip until python3-venv is there
"$python" -c 'import venv, ensurepip' 2>/dev/null ||
    refuse "$python cannot make virtual environments: on Debian, apt install python3-venv"
# the lightgbm wheel links the system's OpenMP on Linux; the other wheels bring their own
"$python" -c 'import ctypes, sys; sys.platform.startswith("linux") and ctypes.CDLL("libgomp.so.1")' 2>/dev/null ||
    refuse "the library libgomp.so.1 is missing, which LightGBM needs: on Debian, apt install libgomp1"
