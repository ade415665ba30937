"""Bring what the tests need from outside Python: Chromium and the PostgreSQL server programs.

As root on Debian and its kin both come by apt. Elsewhere Playwright brings its own browser, and a missing
PostgreSQL is said: its tests are then skipped, each with a line.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "support"))

PACKAGES = {"chromium": ["chromium", "fonts-dejavu-core"], "postgres": ["postgresql"]}


def missing_tools() -> list[str]:
    """Return which of the tools are not on this machine."""
    from tools import find_chromium, find_postgres

    return [name for name, find in (("chromium", find_chromium), ("postgres", find_postgres)) if find() is None]


def bring_by_apt(wanted: list[str]) -> None:
    """Install the Debian packages of `wanted`."""
    packages = [package for tool in wanted for package in PACKAGES[tool]]
    print(f"bringing {' '.join(packages)} by apt", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *packages]):
        done = subprocess.run(["apt-get", *command], env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"apt-get {command[0]} failed:\n{done.stderr[-2000:]}", file=sys.stderr)
            return


def bring_browser() -> None:
    """Let Playwright install its own Chromium into its cache."""
    print("bringing Playwright's own Chromium", flush=True)
    environment = {name: value for name, value in os.environ.items() if name != "PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD"}
    subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], env=environment, check=False)


def main() -> int:
    """Bring what is missing, and say what could not be brought."""
    wanted = missing_tools()
    if wanted and hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("apt-get"):
        bring_by_apt(wanted)
    if "chromium" in missing_tools():
        bring_browser()
    for tool in missing_tools():
        print(f"{tool} is not here and could not be brought: its tests will be skipped", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
