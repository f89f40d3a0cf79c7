#!/usr/bin/env python3
"""Finds or installs the libtorch that epsweep-worker links, and tells cargo where it is.

In this order:
  1. LIBTORCH=DIR              an unpacked libtorch of your own: checked, used, never changed
  2. LIBTORCH_USE_PYTORCH=1    the torch of the active Python: checked, used, never changed
  3. otherwise                 the pinned CPU libtorch, taken once from the PyTorch wheel into
                               ${EPSWEEP_CACHE:-~/.cache/epsweep}; it survives `cargo clean`

The answer is written to .cargo/config.toml (ignored by git), so that plain `cargo build`,
`cargo test` and an editor find it too. Run again at will: it only does what is missing.
"""

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / ".cargo" / "config.toml"
# tch release -> the libtorch release it was generated for. Cargo.lock says which tch is in use.
LIBTORCH_FOR_TCH = {"0.24": "2.11.0", "0.26": "2.13.0"}
# The PyTorch wheel is a CUDA build; its CPU library still loads these two small CUDA libraries.
CUDA_STUBS = {"2.11.0": "13.0", "2.13.0": "13.0"}
# Which CPython the wheel was made for does not matter here: only its C++ libraries are taken.
WHEEL_PYTHON = "3.11"


def say(text):
    print(f"setup: {text}", file=sys.stderr)


def fail(text, remedy):
    say(f"error: {text}")
    say(f"  what to do: {remedy}")
    sys.exit(1)


def wanted_version():
    """The libtorch release that the locked tch needs."""
    lock = (ROOT / "Cargo.lock").read_text()
    found = re.search(r'name = "tch"\nversion = "(\d+\.\d+)', lock)
    if not found or found.group(1) not in LIBTORCH_FOR_TCH:
        fail(f"Cargo.lock holds no tch release this script knows ({', '.join(LIBTORCH_FOR_TCH)})",
             "restore Cargo.lock from git")
    return LIBTORCH_FOR_TCH[found.group(1)]


def header_version(root):
    """The release an unpacked libtorch says it is, from its headers; None when unreadable."""
    header = root / "include" / "torch" / "headeronly" / "version.h"
    if not header.exists():
        header = root / "include" / "torch" / "csrc" / "api" / "include" / "torch" / "version.h"
    if not header.exists():
        return None
    parts = dict(re.findall(r"#define TORCH_VERSION_(MAJOR|MINOR|PATCH) (\d+)", header.read_text()))
    if len(parts) != 3:
        return None
    return f"{parts['MAJOR']}.{parts['MINOR']}.{parts['PATCH']}"


def check(root, version, source):
    """Fails unless `root` is a complete libtorch of `version`."""
    for needed in ("lib/libtorch_cpu.so", "lib/libc10.so", "include/torch/csrc/api/include/torch/torch.h"):
        if not (root / needed).exists():
            fail(f"{source} points at {root}, which has no {needed}",
                 f"point it at an unpacked libtorch {version}, or unset it to have one installed")
    found = header_version(root)
    if found != version and not os.environ.get("LIBTORCH_BYPASS_VERSION_CHECK"):
        fail(f"{source} is libtorch {found or 'of unknown version'}, the locked tch needs {version}",
             f"use libtorch {version}, or set LIBTORCH_BYPASS_VERSION_CHECK=1 at your own risk")


def python_torch(version):
    """LIBTORCH_USE_PYTORCH: the folder of the active Python's torch, checked."""
    probe = "import torch, pathlib; print(torch.__version__); print(pathlib.Path(torch.__file__).parent)"
    try:
        out = subprocess.run([sys.executable, "-c", probe], check=True, capture_output=True, text=True).stdout
    except subprocess.CalledProcessError as error:
        fail(f"LIBTORCH_USE_PYTORCH is set, but {sys.executable} cannot import torch: "
             f"{error.stderr.strip().splitlines()[-1]}", "activate the environment that has it, or unset the variable")
    found, root = out.split("\n")[:2]
    check(Path(root), version, f"LIBTORCH_USE_PYTORCH (torch {found})")
    return Path(root)


def download(version, folder):
    """Fetches the wheels with pip, so that its indexes, proxies and certificates apply."""
    machine = platform.machine()
    if platform.system() != "Linux" or machine not in ("x86_64", "aarch64"):
        fail(f"no libtorch recipe for {platform.system()} {machine}",
             f"unpack libtorch {version} yourself and set LIBTORCH to its folder")
    cuda = CUDA_STUBS[version]
    wheels = [f"torch=={version}", f"nvidia-cuda-cupti=={cuda}.*", f"nvidia-cuda-runtime=={cuda}.*"]
    platforms = [f"--platform=manylinux_2_{n}_{machine}" for n in (28, 27, 25, 17)] + [f"--platform=manylinux2014_{machine}"]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:",
               f"--python-version={WHEEL_PYTHON}", "--implementation=cp", *platforms, "--dest", str(folder), *wheels]
    say(f"downloading libtorch {version} (the PyTorch wheel, about 530 MB) with pip")
    if subprocess.run(command).returncode != 0:
        fail("pip could not download libtorch (its message stands above)",
             "check the network or the pip index, or set LIBTORCH to a libtorch of your own")
    return sorted(folder.glob("*.whl"))


def unpack(wheels, target):
    """Takes the C++ half out of the wheels: libraries and headers, nothing of Python."""
    keep = re.compile(
        r"^torch/lib/(libtorch_cpu\.so|libc10\.so|libgomp[^/]*|libshm[^/]*)$"
        r"|^torch/include/.*"
        r"|^nvidia/.*/lib/(libcudart\.so[^/]*|libcupti\.so[^/]*)$")
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if not keep.match(name) or name.endswith("/"):
                    continue
                inside = name.removeprefix("torch/") if name.startswith("torch/include/") else f"lib/{Path(name).name}"
                path = target / inside
                path.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(name) as source, open(path, "wb") as sink:
                    shutil.copyfileobj(source, sink, 1 << 20)
    # The wheel's own libtorch.so demands the CUDA library. This linker script stands in for it.
    (target / "lib" / "libtorch.so").write_text("INPUT(-ltorch_cpu -lc10)\n")


def installed(version):
    """The pinned libtorch in the cache, installed when it is not there yet."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "epsweep"
    cache = Path(os.environ.get("EPSWEEP_CACHE") or default).resolve()
    final = cache / f"libtorch-{version}-cpu"
    if not final.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix="installing-") as scratch:
            wheels = Path(scratch) / "wheels"
            wheels.mkdir()
            found = download(version, wheels)
            say("unpacking its C++ half")
            unpack(found, Path(scratch) / "libtorch")
            check(Path(scratch) / "libtorch", version, "the downloaded wheel")
            try:
                # A rename, so that the folder exists only when it is complete.
                os.rename(Path(scratch) / "libtorch", final)
            except OSError:
                if not final.exists():  # otherwise another set-up was quicker: take its copy
                    raise
        say(f"installed libtorch {version} in {final}")
    check(final, version, "the cached libtorch")
    return final


def write_config(lines):
    text = "# Written by scripts/setup_libtorch.py; run it again rather than editing this.\n[env]\n" + "\n".join(lines) + "\n"
    if CONFIG.exists() and CONFIG.read_text() == text:
        return
    CONFIG.parent.mkdir(exist_ok=True)
    CONFIG.write_text(text)
    say(f"told cargo in {CONFIG.relative_to(ROOT)}")


def main():
    version = wanted_version()
    if os.environ.get("LIBTORCH"):
        root = Path(os.environ["LIBTORCH"]).resolve()
        check(root, version, "LIBTORCH")
        say(f"using LIBTORCH={root} (libtorch {version})")
        write_config([f'LIBTORCH = "{root}"'])
    elif os.environ.get("LIBTORCH_USE_PYTORCH"):
        root = python_torch(version)
        say(f"using the torch of {sys.executable} in {root}")
        # PYTHON is not torch-sys's own variable: build.rs reads the folder for the rpath.
        write_config(['LIBTORCH_USE_PYTORCH = "1"', f'EPSWEEP_LIBTORCH = "{root}"'])
    else:
        root = installed(version)
        say(f"using libtorch {version} in {root}")
        write_config([f'LIBTORCH = "{root}"'])


if __name__ == "__main__":
    main()
