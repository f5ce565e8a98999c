#!/usr/bin/env bash
# changelog, sdist and wheel; both run in bare environments outside the checkout
source .ci/common.sh

environment release '.[release]'
# It fails on a fragment whose name it doesn't understand.
towncrier build --draft >"$SCRATCH/changelog.rst"
version=$(python -c 'import jt709c_gateway; print(jt709c_gateway.__version__)')

# The wheel is made from the sdist; made straight from the checkout it is the same, byte for byte.
SOURCE_DATE_EPOCH=$(if is_checkout; then git log -1 --format=%ct; else date +%s; fi)
export SOURCE_DATE_EPOCH
dist=$SCRATCH/dist
rm -rf build
python -m build --outdir "$dist" >"$SCRATCH/build.log" 2>&1 || { cat "$SCRATCH/build.log"; exit 1; }
python -m build --wheel --outdir "$dist/again" >"$SCRATCH/build.log" 2>&1 || { cat "$SCRATCH/build.log"; exit 1; }
rm -rf build
sdist=$dist/jt709c_gateway-$version.tar.gz
wheel=$dist/jt709c_gateway-$version-py3-none-any.whl
cmp "$wheel" "$dist/again/$(basename "$wheel")"
twine check --strict "$sdist" "$wheel"
if is_checkout; then
    python .ci/check_contents.py "$sdist" "$wheel"
else
    echo "************ NO CHECKOUT: WHAT SDIST AND WHEEL HOLD IS NOT COMPARED ************"
fi
deactivate

echo "-- the wheel: a gateway, and a first unlock"
environment wheel "${wheel}[embedded]"
mkdir "$SCRATCH/wheel"
jt709c --version | grep -xF "jt709c, version $version"
env -C "$SCRATCH/wheel" twistd jt709c-gateway --version | grep -F "jt709c-gateway $version (Twisted "
in_background "$SCRATCH/wheel.log" env -C "$SCRATCH/wheel" \
    twistd -n jt709c-gateway --redis embedded --listen tcp:8888:interface=127.0.0.1 --no-udp
first_unlock "$SCRATCH/wheel.log"
no_traceback "$SCRATCH/wheel.log"
stop_started
deactivate

echo "-- the sdist: its own tests of the codec, with what was installed from it"
mkdir "$SCRATCH/sdist"
tar -xzf "$sdist" -C "$SCRATCH/sdist" --strip-components=1
environment sdist "${sdist}[test]"
cd "$SCRATCH/sdist"
rm -r jt709c_gateway
python -m pytest -q tests/unit/cli/test_decode.py tests/unit/protocol/test_vectors.py
