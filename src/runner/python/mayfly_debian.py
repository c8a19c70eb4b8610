"""Fetches packages of Debian and unpacks them, in a jail that is handed connections to apt's mirrors alone. apt
resolves, and checks signatures and digests, with the machine's sources and keyrings; no script of a package runs."""

import compileall
import hashlib
import json
import mmap
import os
import platform
import py_compile
import re
import shutil
import subprocess
import tarfile

from mayfly_resolver import DEBIAN_LINE, WORK, Refused, debian_line

SOURCES = "/apt"  # the machine's /etc/apt
METHOD = "/runtime/mayfly_apt_method.py"
ARCHIVES = f"{WORK}/archives"
STATE = f"{WORK}/apt"
TARGET = f"{WORK}/debian"
CONTROL = 0
KEPT_CONTROL = 9  # mayfly_apt_method.py
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
MAX_BYTES = 8 << 30
MAX_ENTRIES = 200_000
PIECE = 1 << 20
KEPT_WORDS = 4000
# Maintainers' scripts would make links to one of these; here the first there is, is it.
ALTERNATIVES = re.compile(r"lib(openblas|blas|lapack|cblas)\.so\.\d+")


def architecture():
    machine = platform.machine()
    if machine not in ARCHITECTURES:
        raise Refused(f"debian: there are no packages for {machine} here")
    return ARCHITECTURES[machine]


class Apt:
    def __init__(self):
        for folder in (f"{STATE}/lists/partial", f"{STATE}/cache", f"{ARCHIVES}/partial"):
            os.makedirs(folder)
        self._status = f"{STATE}/status"
        self.install([])
        os.dup2(CONTROL, KEPT_CONTROL, inheritable=True)
        self._environment = {"PATH": "/usr/bin:/bin", "HOME": "/tmp", "TMPDIR": f"{WORK}/tmp",
                             "LANG": "C.UTF-8", "APT_CONFIG": f"{STATE}/apt.conf"}
        self._configure(f'Dir::Etc "{SOURCES}/";\n')
        fetching = [line for line in self.run("apt-config", "dump").splitlines()
                    if line.startswith("Acquire::") and not line.endswith(' "";')]
        self._configure("\n".join(fetching) + f"""
            Dir::Etc "{SOURCES}/";
            Dir::Etc::main "none"; Dir::Etc::parts "none";
            Dir::State "{STATE}/"; Dir::State::status "{self._status}";
            Dir::Cache "{STATE}/cache/"; Dir::Cache::archives "{ARCHIVES}/";
            Dir::Bin::Methods::http "{METHOD}"; Dir::Bin::Methods::https "{METHOD}";
            APT::Architecture "{architecture()}"; APT::Architectures {{ "{architecture()}"; }};
            APT::Sandbox::User ""; APT::Keep-Fds {{ "{KEPT_CONTROL}"; }};
            APT::Install-Recommends "false"; APT::Get::Assume-Yes "true";
            Acquire::Languages "none"; Acquire::PDiffs "false"; Acquire::Retries "1";
            Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
            Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";
            """)

    def _configure(self, text):
        with open(f"{STATE}/apt.conf", "w", encoding="utf-8") as file:
            file.write(text)

    def install(self, stanzas):
        """What apt takes for installed."""
        with open(self._status, "w", encoding="utf-8") as file:
            for stanza in stanzas:
                file.write("Status: install ok installed\n" + stanza + "\n\n")

    def run(self, *arguments):
        done = subprocess.run(arguments, env=self._environment, stdin=subprocess.DEVNULL, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, errors="replace",
                              pass_fds=(KEPT_CONTROL,), cwd=ARCHIVES, check=False)
        if done.returncode != 0:
            wrong = [line for line in (done.stderr + done.stdout).splitlines()
                     if line.startswith(("E:", "Err:", " ")) or "Depends:" in line]
            words = "\n".join(wrong) or done.stderr or f"status {done.returncode}"
            raise Refused(f"debian: {arguments[0]}: {words[-KEPT_WORDS:]}")
        return done.stdout


def base_of(apt):
    """What is there without any package: the interpreter, and what it needs."""
    names = re.findall(r"^Inst (\S+) \((\S+) ", apt.run("apt-get", "-s", "install", "python3"), re.M)
    version = dict(names).get("python3", "")
    minor = ".".join(platform.python_version_tuple()[:2])
    if not version.startswith(minor + "."):
        raise Refused(f"debian: apt's sources have Python {version or 'nowhere'}, and functions run on Python "
                      f"{minor} here: what they hold would not load")
    shown = apt.run("apt-cache", "--no-all-versions", "show", "--",
                    *[f"{name}={number}" for name, number in names])
    return [stanza for stanza in shown.split("\n\n") if stanza.strip()]


def fetch_locked(apt, lock):
    wanted = []
    for name, version, machine, _ in lock:
        if machine not in ("all", architecture()):
            raise Refused(f"debian: {name} is for {machine}, and this node is {architecture()}")
        wanted.append(f"{name}={version}" if machine == "all" else f"{name}:{machine}={version}")
    try:
        apt.run("apt-get", "download", "--", *wanted)
    except Refused as error:
        raise Refused(f"debian: what it was deployed with cannot be had any more: {error}") from None


def digest_of(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def lock_of(apt):
    """Each archive there is: name, version, architecture, digest, path."""
    found = []
    for file in sorted(name for name in os.listdir(ARCHIVES) if name.endswith(".deb")):
        path = f"{ARCHIVES}/{file}"
        fields = apt.run("dpkg-deb", "-f", path, "Package", "Version", "Architecture")
        values = dict(line.split(": ", 1) for line in fields.splitlines())
        found.append((values["Package"], values["Version"], values["Architecture"], digest_of(path), path))
    return sorted(found)


def check_lock(found, lock):
    known = {entry[:3]: entry[3] for entry in found}
    for entry in lock:
        if known.get(entry[:3]) != entry[3]:
            raise Refused(f"debian: {entry[0]} {entry[1]} is another archive than when it was deployed")


# ---- Unpacking -----------------------------------------------------------------------------------


class Unpacking:
    """Plain files and folders of usr/ alone: a link becomes a copy of what it leads to, a library the
    file that its link was for."""

    KEPT = re.compile(r"usr/(lib|share|include)/")
    DROPPED = re.compile(r"usr/share/(doc|man|lintian|bug|locale|info|doc-base)/|usr/lib/debug/")

    def __init__(self):
        self._links = {}
        self._bytes = 0
        self._entries = 0

    def unpack(self, path):
        with subprocess.Popen(["/usr/bin/dpkg-deb", "--fsys-tarfile", path], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE) as process:
            with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
                for member in archive:
                    self._take(archive, member)
            process.stdout.read()
        if process.returncode != 0:
            raise Refused(f"debian: {os.path.basename(path)} cannot be unpacked")

    def _take(self, archive, member):
        name = os.path.normpath(member.name)
        if name.startswith("lib/"):  # merged into usr/, as systems have it
            name = "usr/" + name
        if not self.KEPT.match(name) or self.DROPPED.match(name) or ".." in name.split("/"):
            return
        self._count(member.size)
        if member.issym() or member.islnk():
            to = member.linkname if member.islnk() else os.path.join("/" + os.path.dirname(name), member.linkname)
            to = os.path.normpath(to).lstrip("/")
            self._links[name] = "usr/" + to if to.startswith("lib/") else to
        elif member.isfile():
            target = f"{TARGET}/{name}"
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with archive.extractfile(member) as source, open(target, "wb") as file:
                shutil.copyfileobj(source, file, PIECE)

    def _count(self, size):
        self._bytes += size
        self._entries += 1
        if self._bytes > MAX_BYTES or self._entries > MAX_ENTRIES:
            raise Refused(f"debian: the packages hold more than {MAX_BYTES >> 30} GiB or {MAX_ENTRIES} files")

    def follow_links(self):
        renamed = {}
        for _ in range(8):  # links to links
            for name, to in list(self._links.items()):
                source = f"{TARGET}/{renamed.get(to, to)}"
                if not os.path.exists(source):
                    continue
                target = f"{TARGET}/{name}"
                del self._links[name]
                if os.path.lexists(target):
                    continue
                os.makedirs(os.path.dirname(target), exist_ok=True)
                beside = os.path.dirname(name) == os.path.dirname(to) and to not in renamed
                if beside and os.path.isfile(source) and is_called(source, name, to):
                    os.rename(source, target)  # libx.so.1.2.3 is only ever looked for as libx.so.1
                    renamed[to] = name
                elif os.path.isdir(source):
                    if not f"{target}/".startswith(f"{source}/"):
                        self._copy_folder(source, target)
                else:
                    self._count(os.path.getsize(source))
                    shutil.copyfile(source, target)

    def _copy_folder(self, source, target):
        for folder, _, files in os.walk(source):
            for file in files:
                into = os.path.join(target, os.path.relpath(os.path.join(folder, file), source))
                self._count(os.path.getsize(os.path.join(folder, file)))
                os.makedirs(os.path.dirname(into), exist_ok=True)
                shutil.copyfile(os.path.join(folder, file), into)


def is_called(library, name, other):
    """Whether the loader knows it by the one name and not by the other: its strings have that."""
    name, other = (f"\0{os.path.basename(each)}\0".encode() for each in (name, other))
    if b".so." not in name or os.path.getsize(library) == 0:
        return False
    with open(library, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return data[:4] == b"\x7fELF" and data.find(name) >= 0 and data.find(other) < 0


def choose_alternatives():
    for folder, _, files in sorted(os.walk(f"{TARGET}/usr/lib")):
        for file in files:
            target = os.path.join(os.path.dirname(folder), file)
            if ALTERNATIVES.fullmatch(file) and not os.path.exists(target):
                shutil.copyfile(os.path.join(folder, file), target)


def fetch(job, connections):
    if not shutil.which("apt-get", path="/usr/bin") or not os.path.isdir(SOURCES):
        raise Refused("debian: this node has no apt: packages of Debian are fetched with it")
    connections.tell("packages", "resolving packages of Debian")
    lock = [match.groups() for match in map(DEBIAN_LINE.fullmatch, job["lock"].splitlines()) if match]
    apt = Apt()
    apt.run("apt-get", "update", "-o", "APT::Update::Error-Mode=any")
    connections.tell("packages", "fetching packages of Debian")
    if lock:
        fetch_locked(apt, lock)
    else:
        apt.install(base_of(apt))
        apt.run("apt-get", "install", "--download-only", "--", *job["debian"])
    found = lock_of(apt)
    if lock:
        check_lock(found, lock)
    unpacking = Unpacking()
    os.makedirs(f"{TARGET}/usr")
    for *_, path in found:
        connections.tell("packages", f"unpacking {os.path.basename(path)}")
        unpacking.unpack(path)
        os.unlink(path)
    unpacking.follow_links()
    choose_alternatives()
    connections.tell("packages", "compiling")
    compileall.compile_dir(f"{TARGET}/usr/lib/python3", quiet=2,
                           invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
                           stripdir=TARGET)
    lines = [debian_line(*entry[:4]) + "\n" for entry in found]
    with open(f"{TARGET}/debian.json", "w", encoding="utf-8") as file:
        json.dump({"lock": "".join(lines)}, file)
    return {"next": "install"}
