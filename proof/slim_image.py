"""On a slim image, which has no libGL, one documented command makes InsightFace work: `python proof/slim_image.py`.

A root directory is made of the files of the few Debian packages that a Python needs, copied from this machine; no
library for windows is among them, and what is started in it (chroot) finds nothing else. There the wheel of this
project is installed with its extra `insightface`, from the pins. The adapter's error must come and name the commands of
the page "Recognise people in frames"; then the first of them is typed there, word for word, and the adapter must know
a person of the generated card pack through the real FaceAnalysis. Without `--small` the same with the second command,
for which the packages that it names are added to the root directory with all that they depend on.

Needs Debian, its /usr/bin/python3 with venv, and root, for chroot. Nothing is left behind.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from _report import ROOT, Proof

PAGE: Final = ROOT / "docs" / "how-to" / "gallery.md"
SECTION: Final = re.compile(r"^## On a slim image$(.*?)^## ", re.MULTILINE | re.DOTALL)
COMMAND: Final = re.compile(r"^\$ (.+)$", re.MULTILINE)
PYTHON: Final = "/usr/bin/python3"
SLIM: Final = ("python3-venv", "dash", "libstdc++6")  # with what they depend on: a Python, a shell, C++'s own library
UNWANTED: Final = ("libGL.so.1", "libgthread-2.0.so.0", "libxcb.so.1")
READ_BY_ONNX: Final = ("proc/cpuinfo", "sys/devices/system/cpu/possible", "sys/devices/system/cpu/present")
LONGEST: Final = 600.0  # seconds for one command

LOAD: Final = """
import ctypes, json, sys
found = {}
for name in sys.argv[1:]:
    try:
        ctypes.CDLL(name)
        found[name] = "loaded"
    except OSError as error:
        found[name] = str(error)
print(json.dumps(found))
"""

LOOK: Final = """
import json, sys
from pathlib import Path
from resilient_faces.adapters.insightface import InsightFaceEngine, MissingLibraryError, embedding_of_photo
from resilient_faces.testing.card_pack import photo, write_pack
pack = write_pack(Path("/tmp/pack"))
try:
    engine = InsightFaceEngine(pack)
except MissingLibraryError as error:
    print(json.dumps({"error": str(error), "missing": error.missing}))
    sys.exit()
import cv2
shown = [photo(3, side=400), photo(3, side=320), photo(4, side=400)]
one, other, stranger = (embedding_of_photo(engine, each)[0] for each in shown)
print(json.dumps({
    "same": round(float(one @ other), 3),
    "stranger": round(float(one @ stranger), 3),
    "analysis": type(engine._analysis).__module__,
    "cv2": cv2.__version__,
}))
"""

proof = Proof(
    "slim_image",
    "Where libGL cannot be loaded the adapter names a command that makes it work, and that command does",
    __doc__,
    "the first command only",
)


def closure(packages: Sequence[str]) -> list[str]:
    """These packages with all that they depend on, of those that this machine has."""
    no = [f"--no-{kind}" for kind in ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")]
    said = subprocess.run(
        ["apt-cache", "depends", "--recurse", "--installed", *no, *packages],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return sorted(set(re.findall(r"^([a-z0-9][a-z0-9+.:-]+)$", said, re.MULTILINE)))


def copy(packages: Sequence[str], root: Path) -> None:
    """Copy the files of these packages below another root."""
    listed = subprocess.run(["dpkg-query", "--listfiles", *packages], capture_output=True, text=True, check=True).stdout
    places = {Path(name) for name in listed.splitlines() if name.startswith("/")}
    wanted = "\n".join(sorted(str(one) for one in places if one.is_symlink() or one.is_file()))
    reading = subprocess.Popen(
        ["tar", "--create", "--no-recursion", "--directory=/", "--files-from=-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # that it takes the first slash away
    )
    writing = subprocess.Popen(["tar", "--extract", f"--directory={root}"], stdin=reading.stdout)
    assert reading.stdin is not None
    reading.stdin.write(wanted.encode())
    reading.stdin.close()
    if writing.wait() or reading.wait():
        raise subprocess.CalledProcessError(1, "tar")


def make_root(root: Path) -> list[str]:
    """A root directory with a Python and a shell; the packages that it is made of."""
    root.mkdir()
    for name in ("bin", "sbin", "lib", "lib64"):
        where = Path("/") / name
        if where.is_symlink():  # Debian's /bin is /usr/bin
            (root / where.readlink()).mkdir(parents=True, exist_ok=True)
            (root / name).symlink_to(where.readlink())
    packages = closure(SLIM)
    copy(packages, root)
    for name in ("tmp", "dev"):
        (root / name).mkdir(exist_ok=True)
    try:
        os.mknod(root / "dev" / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except OSError:  # a container may not: a file that stays small does as well
        (root / "dev" / "null").touch()
    for name in READ_BY_ONNX:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes((Path("/") / name).read_bytes() if (Path("/") / name).exists() else b"")
    return packages


def inside(root: Path, *command: str) -> str:
    """Run a command in that root, with nothing of this one's environment; its standard output.

    Raises:
        CalledProcessError: It failed.
    """
    clean = {
        "PATH": "/venv/bin:/usr/bin:/bin",
        "HOME": "/tmp",
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": "/wheels",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_ROOT_USER_ACTION": "ignore",
    }
    chroot = shutil.which("chroot", path="/usr/sbin:/sbin:/usr/bin") or "chroot"
    return carry_out([chroot, str(root), *command], clean)


def carry_out(command: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    """Run a command; its standard output. What it said is shown if it fails.

    Raises:
        CalledProcessError: It failed.
    """
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LONGEST, check=False)
    if run.returncode:
        print("\n".join((run.stdout + run.stderr).splitlines()[-15:]), file=sys.stderr)
        run.check_returncode()
    return run.stdout


def fetch(wheels: Path, version: str) -> None:
    """This project's wheel, and those of its extra as the pins have them, for the Python in that root."""
    pins = ROOT / "constraints" / f"py{version.replace('.', '')}.txt"
    if not pins.exists():
        proof.lacks(f"there are no pins for {PYTHON}, which is Python {version}")
    opencv = re.search(r"^opencv-python==(.+)$", pins.read_text(), re.MULTILINE)
    assert opencv is not None
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    headless = f"opencv-python-headless=={opencv[1]}"  # published together, under the same number
    carry_out([*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels), str(ROOT)])
    chosen = ["--constraint", str(pins), "--only-binary=:all:", "--find-links", str(wheels), "--dest", str(wheels)]
    carry_out([*pip, "--python", PYTHON, "download", *chosen, "resilient-faces[insightface]", headless])


def tried(root: Path) -> dict[str, Any]:
    """What comes of the adapter there."""
    found: dict[str, Any] = json.loads(inside(root, "python", "-c", LOOK).splitlines()[-1])
    return found


def recognises(found: dict[str, Any]) -> bool:
    """Whether it knows a person, through the real FaceAnalysis."""
    return bool("error" not in found and found["same"] > 0.9 and found["stranger"] < 0.5)


def main() -> int:
    options = proof.parse()
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        proof.lacks("chroot needs root; as root it takes half a minute: sudo " + " ".join([sys.executable, *sys.argv]))
    for command in ("apt-cache", "dpkg-query", "tar"):
        if shutil.which(command) is None:
            proof.lacks(f"{command} is not here: this proof is for Debian and what is made of it")
    if not Path(PYTHON).exists() or not list(Path("/usr/lib").glob("python3*/ensurepip/__init__.py")):
        proof.lacks("Debian's own Python with venv is needed: apt-get install python3-venv")
    proof.need("pip", "hatchling")
    section = SECTION.search(PAGE.read_text(encoding="utf-8"))
    typed = COMMAND.findall(section[1]) if section else []
    if not proof.check(len(typed) == 2, f"the page has {len(typed)} commands for slim images instead of two"):
        return proof.finish(parameters={}, figures={})
    seconds: dict[str, float] = {}
    figures: dict[str, Any] = {"seconds": seconds}
    began = time.monotonic()

    def done(step: str, text: str) -> None:
        nonlocal began
        seconds[step] = round(time.monotonic() - began, 1)
        proof.say(f"{seconds[step]:6.1f} s  {text}")
        began = time.monotonic()

    with tempfile.TemporaryDirectory(prefix="slim-") as temporary:
        root = Path(temporary) / "root"
        packages = make_root(root)
        version = inside(root, PYTHON, "-c", "import sys; print('%d.%d' % sys.version_info[:2])").strip()
        done("root", f"a root directory of {len(packages)} packages, Python {version}")
        figures["unloadable"] = json.loads(inside(root, PYTHON, "-c", LOAD, *UNWANTED))
        for name, said in figures["unloadable"].items():
            proof.check("cannot open shared object file" in said, f"{name} can be loaded there ({said})")
        (root / "wheels").mkdir()
        fetch(root / "wheels", version)
        done("wheels", "wheels")
        inside(root, PYTHON, "-m", "venv", "/venv")
        inside(root, "sh", "-c", "pip install 'resilient-faces[insightface]'")
        done("installed", "pip install 'resilient-faces[insightface]'")

        figures["before"] = before = tried(root)
        error = before.get("error", "")
        proof.check(bool(error), "the adapter works there without a cure, so nothing is proved")
        for one in typed:
            proof.check(f"`{one}`" in error, f"the error does not name the page's command: {one}")
        done("error", f"the error: {error}")

        inside(root, "sh", "-c", typed[0])
        figures["after"] = after = tried(root)
        proof.check(recognises(after), f"after `{typed[0]}`: {after}")
        still = json.loads(inside(root, PYTHON, "-c", LOAD, UNWANTED[0]))[UNWANTED[0]]
        proof.check("cannot open" in still, f"{UNWANTED[0]} has come to the root directory ({still})")
        done("cured", f"$ {typed[0]}: {after}")

        if not options.small:
            inside(root, "sh", "-c", "pip uninstall -y opencv-python-headless")
            inside(root, "sh", "-c", "pip install --force-reinstall --no-deps opencv-python")
            proof.check("error" in tried(root), "with opencv-python back in its place there is no error")
            named = [word for word in typed[1].split() if word.startswith("lib")]
            proof.check(len(named) == 2, f"`{typed[1]}` names {len(named)} libraries")
            missing = [one for one in named if not closure([one])]
            if missing:
                proof.lacks(f"{', '.join(missing)} is not on this machine: {typed[1]}")
            copy(closure(named), root)
            figures["with_libraries"] = other = tried(root)
            proof.check(recognises(other), f"with {' and '.join(named)}: {other}")
            done("libraries", f"with the files of {' and '.join(named)}: {other}")
    return proof.finish(
        parameters={"packages": packages, "commands": typed},
        figures=figures,
        packages=("insightface", "onnxruntime", "opencv-python"),
        python=version,
    )


if __name__ == "__main__":
    sys.exit(main())
