"""Installs what a function's requirements.txt asks for, in a jail without network: pip runs here, and
asks the server for each connection that it wants. Wheels only, so that nothing of a package runs."""

import compileall
import hashlib
import io
import json
import os
import py_compile
import socket
import sys
import threading
from urllib.parse import unquote, urlsplit

PIP = "/pip"
CERTIFICATES = "/certificates/ca-certificates.crt"
SOURCE = "/source"
WORK = "/work"
ENVIRONMENT = "/work/environment"
CONTROL = 0
KEPT_WORDS = 4000


class Connections:
    """Connected sockets, from the server."""

    def __init__(self):
        self._control = socket.socket(fileno=os.dup(CONTROL))
        self._turn = threading.Lock()

    def tell(self, step, detail):
        self._control.send(json.dumps({"step": step, "detail": detail[:200]}).encode())

    def connect(self, address, timeout=None, *_, **__):
        host, port = address
        with self._turn:
            self._control.send(json.dumps({"connect": {"host": host, "port": port}}).encode())
            words, descriptors, _, _ = socket.recv_fds(self._control, 4096, 1)
        if not descriptors:
            raise OSError(words.decode(errors="replace") or "the node is gone")
        connection = socket.socket(fileno=descriptors[0])
        if timeout is None or isinstance(timeout, (int, float)):
            connection.settimeout(timeout)
        return connection


class Words(io.TextIOBase):
    """What pip says: told as progress, and the end of it kept."""

    def __init__(self, connections):
        self._connections = connections
        self._line = ""
        self.kept = ""

    def writable(self):
        return True

    def write(self, text):
        self._line += text
        *lines, self._line = self._line.split("\n")
        for line in lines:
            line = line.strip()
            if not line:
                continue
            self.kept = (self.kept + line + "\n")[-KEPT_WORDS:]
            if line.split(" ")[0] in ("Collecting", "Downloading", "Installing", "Processing"):
                self._connections.tell("packages", line)
        return len(text)


def arguments_of(job):
    arguments = ["install", "--isolated", "--target", ENVIRONMENT, "--only-binary=:all:",
                 "--no-compile", "--no-input", "--no-cache-dir", "--disable-pip-version-check",
                 "--no-warn-script-location", "--progress-bar=off", "--no-color",
                 "--root-user-action=ignore", "--report", f"{WORK}/report.json"]
    if os.path.isdir(f"{SOURCE}/wheels"):
        arguments += ["--find-links", f"{SOURCE}/wheels"]
    if job["index_url"]:
        arguments += ["--index-url", job["index_url"], "--cert", CERTIFICATES]
    else:
        arguments += ["--no-index"]
    if job["lock"]:
        with open(f"{WORK}/lock.txt", "w", encoding="utf-8") as file:
            file.write(job["lock"])
        return arguments + ["--no-deps", "--require-hashes", "-r", f"{WORK}/lock.txt"]
    return arguments + ["-r", f"{SOURCE}/requirements.txt"]


def run_pip(job, connections, words):
    sys.path.insert(0, PIP)
    import pip._vendor.urllib3.util.connection as connection
    connection.create_connection = connections.connect
    from pip._internal.cli.main import main
    sys.stdout = sys.stderr = words
    try:
        return main(arguments_of(job))
    finally:
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__


def digest_of(download):
    """pip tells it of what it fetched, and not of wheels that lay there."""
    known = download["archive_info"].get("hashes", {}).get("sha256")
    if known:
        return known
    with open(unquote(urlsplit(download["url"]).path), "rb") as wheel:
        return hashlib.file_digest(wheel, "sha256").hexdigest()


def lock_of(report):
    """Each archive that was installed, exactly."""
    lines = []
    for item in report["install"]:
        metadata = item["metadata"]
        digest = digest_of(item["download_info"])
        lines.append(f"{metadata['name']}=={metadata['version']} --hash=sha256:{digest}")
    return "\n".join(sorted(lines)) + "\n"


def complaint_of(words):
    """pip's errors, without what it said before them."""
    lines = words.kept.splitlines()
    wrong = [line for line in lines if line.startswith(("ERROR", "error", "Invalid"))]
    return "; ".join(dict.fromkeys(wrong or lines[-5:])) or "pip failed without a word"


def resolve(text):
    job = json.loads(text)
    os.makedirs(f"{WORK}/tmp", exist_ok=True)
    os.makedirs(ENVIRONMENT, exist_ok=True)
    os.environ["TMPDIR"] = f"{WORK}/tmp"  # wheels are larger than what lies in memory
    connections = Connections()
    words = Words(connections)
    connections.tell("packages", "resolving")
    if run_pip(job, connections, words) != 0:
        result = {"refused": complaint_of(words)}
    else:
        with open(f"{WORK}/report.json", encoding="utf-8") as file:
            result = {"lock": lock_of(json.load(file))}
        connections.tell("packages", "compiling")
        compileall.compile_dir(ENVIRONMENT, quiet=2,
                               invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    with open(f"{WORK}/resolved.json", "w", encoding="utf-8") as file:
        json.dump(result, file)
