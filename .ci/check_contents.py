"""Whether an sdist and a wheel hold what git has, and nothing else: python check_contents.py SDIST WHEEL"""

import subprocess
import sys
import tarfile
import zipfile

#: What only a checkout needs.
_CHECKOUT_ONLY = (".ci/", ".gitignore")
#: What is made for an sdist.
_MADE = ("PKG-INFO", "setup.cfg", "jt709c_gateway.egg-info/")
#: What is installed.
_INSTALLED = ("jt709c_gateway/", "twisted/")


def main(sdist: str, wheel: str) -> int:
    """Compare; 1 when something is missing or too much."""
    tracked = subprocess.run(["git", "ls-files"], check=True, capture_output=True, text=True).stdout.split()
    with tarfile.open(sdist) as archive:
        packed = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    with zipfile.ZipFile(wheel) as archive:
        installed = {name for name in archive.namelist() if ".dist-info/" not in name}
    compared = (
        ("sdist", packed, {one for one in tracked if not one.startswith(_CHECKOUT_ONLY)}),
        ("wheel", installed, {one for one in tracked if one.startswith(_INSTALLED)}),
    )
    status = 0
    for name, has, wanted in compared:
        for problem, files in (
            ("lacks", wanted - has),
            ("should not have", {one for one in has - wanted if not one.startswith(_MADE)}),
        ):
            for file in sorted(files):
                print(f"the {name} {problem} {file}")
                status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
