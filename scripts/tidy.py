"""clang-tidy over every source of ours but the tests. The headers a source sees cost far more than the
source, so each target's sources are checked as one translation unit (the preset `tidy`): names are
therefore unique in a folder, file-local ones too. A unit is skipped while every file of ours in it, the
checks and the tool are as they were when it last passed, in whichever checkout."""

import concurrent.futures
import hashlib
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = ROOT / "build/tidy"
PASSED = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "mayfly/tidy"
NOT_OURS = re.compile(r"_test\.dir/|_headers\.dir/|_messages\.dir/|/cmake/")


class Unit:
    def __init__(self, entry: dict):
        words = shlex.split(entry["command"])
        at = words.index("-o")
        self.folder = entry["directory"]
        self.file = entry["file"]
        self.object = words[at + 1]
        self.name = re.sub(r"CMakeFiles/|\.dir|/Unity/.*|\.o$", "", self.object)
        self.listing = words[:at] + words[at + 2:] + ["-MM", "-w"]

    def fingerprint(self, tool: bytes) -> str:
        """Of the checks, the tool and every file of ours that the unit reads."""
        rule = subprocess.run(self.listing, cwd=self.folder, capture_output=True, text=True, check=True).stdout
        read = {pathlib.Path(self.folder, word) for word in rule.split(":", 1)[1].split() if word != "\\"}
        digest = hashlib.sha256(tool + (ROOT / ".clang-tidy").read_bytes())
        for file in sorted(file for file in read if file.is_relative_to(ROOT)):
            content = file.read_bytes().replace(str(ROOT).encode(), b"")
            digest.update(str(file.relative_to(ROOT)).encode() + b"\0" + content)
        return digest.hexdigest()


def units() -> list[Unit]:
    entries = json.loads((BUILD / "compile_commands.json").read_text())
    every = [Unit(entry) for entry in entries if entry["file"].endswith((".cc", ".cxx"))]
    return [unit for unit in every if not NOT_OURS.search(unit.file) and not NOT_OURS.search(unit.object)]


def check(unit: Unit, tool: bytes) -> bool:
    begin = time.monotonic()
    mark = PASSED / unit.fingerprint(tool)
    if mark.exists():
        return True
    run = subprocess.run(["clang-tidy-19", "-p", BUILD, "--quiet", unit.file],
                         capture_output=True, text=True)
    print(f"{run.stdout}tidy: {unit.name}: {time.monotonic() - begin:.0f} s", flush=True)
    if run.returncode == 0:
        mark.touch()
    elif not run.stdout:
        print(run.stderr, flush=True)
    return run.returncode == 0


def main() -> int:
    subprocess.run(["cmake", "--preset", "tidy"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["cmake", "--build", BUILD, "--target", "mayfly_generated"], check=True, stdout=subprocess.DEVNULL)
    PASSED.mkdir(parents=True, exist_ok=True)
    tool = subprocess.run(["clang-tidy-19", "--version"], capture_output=True, check=True).stdout
    todo = units()
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        passed = list(pool.map(lambda unit: check(unit, tool), todo))
    print("tidy: clean" if all(passed) else f"tidy: {passed.count(False)} of {len(todo)} units have findings")
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
