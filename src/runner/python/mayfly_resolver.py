"""Installs what a function's requirements.txt or pyproject.toml asks for, in a jail without network: pip runs here, and
asks the server for each connection that it wants. Wheels only, so that nothing of a package runs. What has none is
fetched for mayfly_builder.py where that was asked for, which builds it in a jail without connections."""

import compileall
import csv
import glob
import hashlib
import io
import json
import os
import platform
import py_compile
import re
import shutil
import socket
import sys
import threading
import tomllib
from urllib.parse import unquote, urlsplit

import mayfly_archive as archive

PIP = "/pip"
CERTIFICATES = "/certificates/ca-certificates.crt"
SOURCE = "/source"
WORK = "/work"
ENVIRONMENT = "/work/environment"
FETCHED = f"{SOURCE}/fetched"  # what the last job of this kind left
BUILT = f"{SOURCE}/built"      # what jobs that built left, each in a folder with its number
DEBIAN = f"{SOURCE}/debian/debian.json"
CONTROL = 0
KEPT_WORDS = 4000


EMPTY_DIGEST = "sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"


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


def sources_of_wheels(job):
    """Where pip looks, in this order of preference for what is equal."""
    arguments = []
    for folder in [f"{SOURCE}/wheels", *built_folders()]:
        if os.path.isdir(folder):
            arguments += ["--find-links", folder]
    if job["index_url"]:
        return arguments + ["--index-url", job["index_url"], "--cert", CERTIFICATES]
    return arguments + ["--no-index"]


USUAL = ["--isolated", "--no-input", "--no-cache-dir", "--disable-pip-version-check",
         "--progress-bar=off", "--no-color"]


def arguments_of(job, requirements):
    arguments = ["install", *USUAL, "--target", ENVIRONMENT, "--only-binary=:all:", "--no-compile",
                 "--no-warn-script-location", "--root-user-action=ignore",
                 "--report", f"{WORK}/report.json", *sources_of_wheels(job)]
    if not job["lock"]:
        return arguments + ["-r", requirements]
    with open(f"{WORK}/lock.txt", "w", encoding="utf-8") as file:
        file.write(lock_with_built(job["lock"]))
    return arguments + ["--no-deps", "--require-hashes", "-r", f"{WORK}/lock.txt"]


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


def run_pip(arguments, words):
    from pip._internal.cli.main import main
    sys.stdout = sys.stderr = words
    try:
        return main(arguments)
    finally:
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__


def digest_of(download):
    """pip tells it of what it fetched, and not of wheels that lay there."""
    known = download["archive_info"].get("hashes", {}).get("sha256")
    if known:
        return known
    return digest_of_file(unquote(urlsplit(download["url"]).path))


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


# ---- Packages without a wheel --------------------------------------------------------------------
#
# FETCHED: state.json, sources/ (one archive each), requires/ (wheels of what building asks for).
# state.json: {"packages": [{"name", "version", "file", "sha256", "requires": [requirement]}]}
# BUILT/NUMBER: said.json, {"file": archive, "wheel": name} or {"file": archive, "needs": [requirement]},
# and the wheel.


def built_folders():
    numbers = [name for name in os.listdir(BUILT) if name.isdecimal()] if os.path.isdir(BUILT) else []
    return [f"{BUILT}/{name}" for name in sorted(numbers, key=int)]


def said():
    """What jobs that built said, the last one last."""
    return [read_json(f"{folder}/said.json") for folder in built_folders()]


def read_json(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def digest_of_file(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Fetching:
    """A copy of what was fetched before, which grows."""

    FOLDER = f"{WORK}/fetched"

    def __init__(self, job, words):
        self._job = job
        self._words = words
        self.state = {"packages": []}
        for part in ("sources", "requires"):
            os.makedirs(f"{self.FOLDER}/{part}")
            if os.path.isdir(f"{FETCHED}/{part}"):
                for name in os.listdir(f"{FETCHED}/{part}"):
                    shutil.copyfile(f"{FETCHED}/{part}/{name}", f"{self.FOLDER}/{part}/{name}")
        if os.path.exists(f"{FETCHED}/state.json"):
            self.state = read_json(f"{FETCHED}/state.json")

    def leave(self):
        with open(f"{self.FOLDER}/state.json", "w", encoding="utf-8") as file:
            json.dump(self.state, file)
        return {"next": "build"}

    def waits(self):
        """Whether something was fetched that is not built."""
        built = {told["file"] for told in said() if "wheel" in told}
        return any(package["file"] not in built for package in self.state["packages"])

    def take_source(self, requirement):
        from pip._vendor.packaging.requirements import InvalidRequirement, Requirement
        from pip._vendor.packaging.utils import canonicalize_name
        try:
            wanted = Requirement(requirement)
        except InvalidRequirement as error:
            raise Refused(f"{requirement}: {error}") from None
        name = canonicalize_name(wanted.name)
        if any(package["name"] == name for package in self.state["packages"]):
            raise Refused(f"{requirement}: it was built, and does not fit what asks for it: "
                          f"{complaint_of(self._words)}")

        def best(finder):
            return finder.find_best_candidate(name, specifier=wanted.specifier).best_candidate
        self._take(name, best, requirement)

    def take_locked(self, name, file, digest):
        def same(finder):
            return next((candidate for candidate in finder.find_all_candidates(name)
                         if candidate.link.filename == file), None)
        package = self._take(name, same, file)
        if package["sha256"] != digest:
            raise Refused(f"{file} is another archive than when it was deployed: its SHA-256 is "
                          f"{package['sha256']}")

    def _take(self, name, choose, what):
        from pip._internal.commands import create_command
        from pip._internal.exceptions import HashMismatch, NetworkConnectionError
        from pip._internal.network.download import Downloader
        command = create_command("download", isolated=True)
        with command.main_context():
            options, _ = command.parse_args([*USUAL, "--no-binary=:all:", *sources_of_wheels(self._job)])
            session = command.get_default_session(options)
            candidate = choose(command._build_package_finder(options, session))
            if candidate is None:
                raise Refused(f"{what}: there is neither a wheel for this Python nor a source "
                              f"distribution: {complaint_of(self._words)}")
            link = candidate.link
            path = f"{self.FOLDER}/sources/{os.path.basename(link.filename)}"
            try:
                if link.is_file:
                    shutil.copyfile(link.file_path, path)
                else:
                    Downloader(session, "off")(link, os.path.dirname(path))
                if hashes := link.as_hashes():
                    hashes.check_against_path(path)
            except (NetworkConnectionError, HashMismatch, OSError) as error:
                raise Refused(f"{what}: {error}") from None
        package = {"name": name, "version": str(candidate.version), "file": os.path.basename(path),
                   "sha256": digest_of_file(path), "requires": build_requires(path)}
        self.state["packages"].append(package)
        return package

    def take_requirements(self, package, requirements, locked=False):
        """As wheels: nothing of what builds is built."""
        if not requirements:
            return
        arguments = ["download", *USUAL, "--only-binary=:all:", "-d", f"{self.FOLDER}/requires",
                     *sources_of_wheels(self._job)]
        path = f"{WORK}/requires.txt"
        with open(path, "w", encoding="utf-8") as file:
            file.write("\n".join(requirements) + "\n")
        if locked:
            arguments += ["--no-deps", "--require-hashes"]
        if run_pip([*arguments, "-r", path], self._words) != 0:
            raise Refused(f"{package}: what building it asks for: {complaint_of(self._words)}")


def build_requires(path):
    """What pyproject.toml asks for, read and not asked of anybody."""
    name = os.path.basename(path)
    try:
        text = archive.check(path)
        system = tomllib.loads(text).get("build-system", {}) if text is not None else {}
        listed = system.get("requires", ["setuptools>=40.8.0", "wheel"])
    except (archive.Unfit, ValueError, AttributeError, RecursionError) as error:
        raise Refused(f"{name}: {error}") from None
    return checked_requirements(name, listed)


def checked_requirements(file, listed):
    """What an archive or its build says that it asks for, as pip may read it: packages of the index, and no
    option."""
    from pip._vendor.packaging.requirements import InvalidRequirement, Requirement
    if not isinstance(listed, list):
        raise Refused(f"{file}: what building it asks for is no list")
    checked = []
    for text in listed:
        try:
            requirement = Requirement(text)
        except (InvalidRequirement, TypeError, ValueError, RecursionError) as error:
            raise Refused(f"{file}: {error}") from None
        if requirement.url:
            raise Refused(f"{file}: building it asks for a URL, and only packages of the index are fetched")
        plain = str(requirement)
        if not plain.isprintable() or " -" in plain or "${" in plain:  # in a string of a marker
            raise Refused(f"{file}: building it asks for {plain[:200]!r}")
        checked.append(plain)
    return checked


NAME = "[A-Za-z0-9][A-Za-z0-9._-]*"
FILE = "[A-Za-z0-9][A-Za-z0-9._+!-]*"
DIGEST = "([0-9a-f]{64})"
PACKAGE_LINE = re.compile(f"{NAME}==[A-Za-z0-9][A-Za-z0-9.+!_-]* --hash=sha256:{DIGEST}")
BUILT_LINE = re.compile(f"# built: ({NAME}) ({FILE}) sha256:{DIGEST}")
WITH_LINE = re.compile(rf"# with: ({FILE}\.whl) sha256:{DIGEST}")
# core/function_options.cc: is_debian_package
DEBIAN_LINE = re.compile(r"# debian: ([a-z0-9][a-z0-9+.-]+) ([A-Za-z0-9+.:~][A-Za-z0-9+.:~-]*) ([a-z0-9-]+) "
                         f"sha256:{DIGEST}")


def debian_line(name, version, machine, digest):
    return f"# debian: {name} {version} {machine} sha256:{digest}"


def check_lock(lock):
    """Of lines as they are written here, and nothing that would be an option to pip or apt."""
    for line in lock.split("\n"):
        if line and not any(kind.fullmatch(line) for kind in (PACKAGE_LINE, BUILT_LINE, WITH_LINE, DEBIAN_LINE)):
            raise Refused(f"{line[:200]!r} is no line of a lock")
    return lock


def lock_of_building(fetching):
    """Comments to pip, behind what it reads: archives, and the wheels that building them asked for."""
    lines = [f"# built: {package['name']} {package['file']} sha256:{package['sha256']}"
             for package in fetching.state["packages"]]
    folder = f"{fetching.FOLDER}/requires"
    if lines:
        lines += [f"# with: {name} sha256:{digest_of_file(f'{folder}/{name}')}"
                  for name in sorted(os.listdir(folder))]
    return "".join(line + "\n" for line in lines)


def lock_with_built(lock):
    """A wheel that was built again need not be the same file; whether what it installs is the same,
    the environment's digest tells."""
    from pip._vendor.packaging.utils import canonicalize_name
    digests = {}
    for folder, told in zip(built_folders(), said()):
        if "wheel" in told:
            name = canonicalize_name(told["wheel"].split("-")[0])
            digests[name] = digest_of_file(os.path.join(folder, os.path.basename(told["wheel"])))
    lines = []
    for line in lock.splitlines():
        name, _, rest = line.partition("==")
        if rest and canonicalize_name(name) in digests:
            version = rest.split(" ")[0]
            line = f"{name}=={version} --hash=sha256:{digests[canonicalize_name(name)]}"
        lines.append(line)
    return "\n".join(lines) + "\n"


def fetch_locked(job, fetching):
    from pip._vendor.packaging.utils import parse_wheel_filename
    built = [match.groups() for match in map(BUILT_LINE.fullmatch, job["lock"].splitlines()) if match]
    if not built or fetching.state["packages"]:
        return
    for name, file, digest in built:
        fetching.take_locked(name, file, digest)
    rounds = []  # name → line: pip takes one version of each at a time
    for match in filter(None, map(WITH_LINE.fullmatch, job["lock"].splitlines())):
        try:
            name, version, *_ = parse_wheel_filename(match[1])
        except ValueError as error:
            raise Refused(str(error)) from None
        into = next((lines for lines in rounds if name not in lines), None)
        if into is None:
            rounds.append(into := {})
        into[name] = f"{name}=={version} --hash=sha256:{match[2]}"
    for lines in rounds:
        fetching.take_requirements("packages that are built", list(lines.values()), locked=True)


NOTHING_FITS = re.compile(r"ERROR: No matching distribution found for (.+)")


def next_to_build(job, fetching, words):
    """The requirement that has no wheel; None: that is not why pip failed."""
    missing = [match[1] for match in map(NOTHING_FITS.fullmatch, words.kept.splitlines()) if match]
    if not missing or job["lock"]:
        return None
    if not job["build"]:
        raise Refused(f"{complaint_of(words)}. Where a package has only a source distribution, "
                      f"build = true in mayfly.toml builds it")
    return missing[-1]


def go_on(job, fetching):
    """What to do about what was said last; None: it is pip's turn."""
    last = (said() or [{}])[-1]
    if "needs" in last:
        package = next((each for each in fetching.state["packages"] if each["file"] == last["file"]), None)
        if package is None:
            raise Refused("what was built is none of what was to be")
        needs = checked_requirements(package["file"], last["needs"])
        new = [need for need in needs if need not in package["requires"]]
        if not new:
            raise Refused(f"{package['file']}: building it asks for {', '.join(needs)}, which was fetched "
                          f"and does not fit")
        package["requires"] += new
        fetching.take_requirements(package["file"], new)
        return fetching.leave()
    fetch_locked(job, fetching)
    return fetching.leave() if fetching.waits() else None


def installed(job, connections):
    debian = read_json(DEBIAN)["lock"] if os.path.exists(DEBIAN) else ""
    requirements = None if job["lock"] else requirements_file()
    if not without_comments(job["lock"]) and requirements is None:
        return {"lock": check_lock(debian)}
    import pip._vendor.urllib3.util.connection as connection
    connection.create_connection = connections.connect
    words = Words(connections)
    fetching = Fetching(job, words)
    if (step := go_on(job, fetching)) is not None:
        return step
    if run_pip(arguments_of(job, requirements), words) != 0:
        name = "pyproject.toml" if requirements and requirements.startswith(WORK) else "requirements.txt"
        try:
            missing = next_to_build(job, fetching, words)
            if missing is None:
                raise Refused(complaint_of(words))
            fetching.take_source(missing)
            package = fetching.state["packages"][-1]
            fetching.take_requirements(package["file"], package["requires"])
        except Refused as error:
            raise Refused(f"{name}: {error}") from None
        return fetching.leave()
    lock = job["lock"]
    if not lock:
        lock = check_lock(lock_of(read_json(f"{WORK}/report.json")) + lock_of_building(fetching) + debian)
    mark_requested()
    connections.tell("packages", "compiling")
    compileall.compile_dir(ENVIRONMENT, quiet=2,
                           invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    return {"lock": lock}


def mark_requested():
    """pip marks what is asked for by name, which a lock does with everything: so that installing by it gives
    the same files, all is marked."""
    for about in glob.glob(f"{ENVIRONMENT}/*.dist-info"):
        mark, record = f"{os.path.basename(about)}/REQUESTED", f"{about}/RECORD"
        if os.path.exists(f"{ENVIRONMENT}/{mark}") or not os.path.exists(record):
            continue
        with open(f"{ENVIRONMENT}/{mark}", "wb"):
            pass
        with open(record, newline="", encoding="utf-8") as file:
            rows = [tuple(row) for row in csv.reader(file)]
        with open(record, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(sorted([*rows, (mark, EMPTY_DIGEST, "0")]))  # as pip writes it


def without_comments(lock):
    return [line for line in lock.splitlines() if line and not line.startswith("#")]


def resolve(text):
    job = json.loads(text)
    os.makedirs(f"{WORK}/tmp", exist_ok=True)
    os.makedirs(ENVIRONMENT, exist_ok=True)
    os.environ["TMPDIR"] = f"{WORK}/tmp"  # wheels are larger than what lies in memory
    sys.path.insert(0, PIP)
    connections = Connections()
    try:
        check_lock(job["lock"])
        if job["resolve"] == "build":
            import mayfly_builder
            result = mayfly_builder.build(connections)
        elif job["resolve"] == "debian":
            import mayfly_debian
            result = mayfly_debian.fetch(job, connections)
        else:
            connections.tell("packages", "resolving")
            result = installed(job, connections)
    except Refused as error:
        result = {"refused": str(error)}
    with open(f"{WORK}/resolved.json", "w", encoding="utf-8") as file:
        json.dump(result, file)
