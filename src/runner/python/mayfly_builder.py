"""Builds one package from its source distribution, in a jail without connections. Here code of the package runs:
what it leaves is believed by nobody but those who asked for the package."""

import json
import os
import re
import shutil
import subprocess

from mayfly_resolver import FETCHED, PIP, USUAL, WORK, Refused, Words, read_json, said

BUILT = f"{WORK}/built"
PYTHON = "/usr/bin/python3"
MISSING = re.compile(r"\s*ERROR: No matching distribution found for (.+)")
SHOWN_LINES = 40


def environment():
    """The same each time, so that what is built is."""
    # Debug information would name folders that are called otherwise each time.
    return {"CFLAGS": "-g0", "CXXFLAGS": "-g0",
            "PATH": "/usr/bin:/bin", "HOME": "/tmp", "TMPDIR": f"{WORK}/tmp", "LANG": "C.UTF-8",
            "SOURCE_DATE_EPOCH": "315532800", "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}


def run_pip(arguments, words):
    with subprocess.Popen([PYTHON, "-I", f"{PIP}/pip/__pip-runner__.py", *arguments], text=True,
                          env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, errors="replace") as process:
        for line in process.stdout:
            words.write(line)
    return process.returncode


def without_frames(words):
    """pip's words without the lines that it draws around them."""
    lines = [line.strip(" │╰─>╭╮╯[]×") for line in words.kept.splitlines()]
    return [line for line in lines if line]


def complaint_of(file, words):
    lines = without_frames(words)[-SHOWN_LINES:]
    if not any(shutil.which(name, path="/usr/bin") for name in ("cc", "gcc", "clang")):
        lines.append("(this node has no C compiler: install gcc and python3-dev on it)")
    return f"{file} cannot be built:\n" + "\n".join(lines)


def build(connections):
    if not os.access(PYTHON, os.X_OK):
        raise Refused(f"{PYTHON} is not there, and nothing can be built without it")
    done = {told["file"] for told in said() if "wheel" in told}
    package = next(each for each in read_json(f"{FETCHED}/state.json")["packages"]
                   if each["file"] not in done)
    file = package["file"]
    connections.tell("packages", f"building {file}")
    os.makedirs(BUILT)
    words = Words(connections)
    # In an environment of its own, from the wheels that were fetched for it.
    failed = run_pip(["wheel", *USUAL, "--use-pep517", "--no-deps", "--no-index",
                      "--find-links", f"{FETCHED}/requires", "-w", BUILT, f"{FETCHED}/sources/{file}"],
                     words) != 0
    wheels = [name for name in os.listdir(BUILT) if name.endswith(".whl")]
    told = {"file": file}
    if not failed and len(wheels) == 1:
        told["wheel"] = wheels[0]
    else:
        needs = [match[1].strip() for match in map(MISSING.fullmatch, without_frames(words)) if match]
        if not needs:
            raise Refused(complaint_of(file, words))
        told["needs"] = needs
    with open(f"{BUILT}/said.json", "w", encoding="utf-8") as out:
        json.dump(told, out)
    return {"next": "install"}
