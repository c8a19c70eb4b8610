"""Installs what a function's requirements.txt or pyproject.toml asks for, in a jail without network: pip runs here, and
asks the server for each connection that it wants. Wheels only, so that nothing of a package runs."""

import compileall
import hashlib
import io
import json
import os
import platform
import py_compile
import socket
import sys
import threading
import tomllib
from urllib.parse import unquote, urlsplit

PIP = "/pip"
CERTIFICATES = "/certificates/ca-certificates.crt"
SOURCE = "/source"
WORK = "/work"
ENVIRONMENT = "/work/environment"
CONTROL = 0
KEPT_WORDS = 4000


class Refused(Exception):
    """The words are for the deployer."""


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


def arguments_of(job, requirements):
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
    return arguments + ["-r", requirements]


def project_table():
    """[project] of pyproject.toml; None: there is none. Nothing of its build system is looked at."""
    try:
        with open(f"{SOURCE}/pyproject.toml", "rb") as file:
            project = tomllib.load(file).get("project")
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise Refused(f"pyproject.toml: {error}") from None
    if project is not None and not isinstance(project, dict):
        raise Refused("pyproject.toml: 'project' is no table")
    return project


def check_python(project):
    from pip._vendor.packaging.specifiers import InvalidSpecifier, SpecifierSet
    wanted = project.get("requires-python")
    if wanted is None:
        return
    try:
        fits = SpecifierSet(wanted).contains(platform.python_version(), prereleases=True)
    except (InvalidSpecifier, TypeError, AttributeError):
        raise Refused(f"pyproject.toml: requires-python: {wanted!r} is no version specifier") from None
    if not fits:
        raise Refused(f"pyproject.toml: requires-python is {wanted!r}, and functions run on Python "
                      f"{platform.python_version()} here")


def is_dynamic(project):
    named = project.get("dynamic")
    return isinstance(named, list) and "dependencies" in named


def dependencies_of(project):
    """As requirements of pip's, each by itself: no line of it is an option."""
    from pip._vendor.packaging.requirements import InvalidRequirement, Requirement
    if is_dynamic(project):
        raise Refused("pyproject.toml: its dependencies are dynamic, which only its build system could "
                      "tell, and none is run here; list them, or write a requirements.txt")
    dependencies = project.get("dependencies", [])
    if not isinstance(dependencies, list):
        raise Refused("pyproject.toml: 'dependencies' is no list")
    try:
        return [str(Requirement(text)) for text in dependencies]
    except (InvalidRequirement, TypeError) as error:
        raise Refused(f"pyproject.toml: dependencies: {error}") from None


def requirements_file():
    """What pip reads; None: no package is asked for."""
    listed = f"{SOURCE}/requirements.txt" if os.path.isfile(f"{SOURCE}/requirements.txt") else None
    project = project_table()
    if project is None:
        return listed
    check_python(project)
    if listed and ("dependencies" in project or is_dynamic(project)):
        raise Refused("requirements.txt and the dependencies of pyproject.toml may contradict each "
                      "other: keep one of them")
    dependencies = dependencies_of(project)
    if listed or not dependencies:
        return listed
    path = f"{WORK}/requirements.txt"
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(dependencies) + "\n")
    return path


def run_pip(job, requirements, connections, words):
    import pip._vendor.urllib3.util.connection as connection
    connection.create_connection = connections.connect
    from pip._internal.cli.main import main
    sys.stdout = sys.stderr = words
    try:
        return main(arguments_of(job, requirements))
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


def installed(job, connections):
    requirements = None if job["lock"] else requirements_file()
    if not job["lock"] and requirements is None:
        return {"lock": ""}
    words = Words(connections)
    if run_pip(job, requirements, connections, words) != 0:
        name = "pyproject.toml" if requirements and requirements.startswith(WORK) else "requirements.txt"
        raise Refused(f"{name}: {complaint_of(words)}")
    with open(f"{WORK}/report.json", encoding="utf-8") as file:
        result = {"lock": lock_of(json.load(file))}
    connections.tell("packages", "compiling")
    compileall.compile_dir(ENVIRONMENT, quiet=2,
                           invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    return result


def resolve(text):
    job = json.loads(text)
    os.makedirs(f"{WORK}/tmp", exist_ok=True)
    os.makedirs(ENVIRONMENT, exist_ok=True)
    os.environ["TMPDIR"] = f"{WORK}/tmp"  # wheels are larger than what lies in memory
    sys.path.insert(0, PIP)
    connections = Connections()
    connections.tell("packages", "resolving")
    try:
        result = installed(job, connections)
    except Refused as error:
        result = {"refused": str(error)}
    with open(f"{WORK}/resolved.json", "w", encoding="utf-8") as file:
        json.dump(result, file)
