"""Archives of sources, looked through before anybody unpacks them: what they would write, and how much."""

import gzip
import os
import tarfile
import zipfile
import zlib

MAX_BYTES = 2 << 30  # unpacked
MAX_ENTRIES = 100_000
MAX_TEXT = 1 << 20  # of pyproject.toml


class Unfit(Exception):
    """The words are for the deployer."""


class Bounded:
    """A stream of which no more than so much is read, however much it unpacks into."""

    def __init__(self, stream):
        self._stream = stream
        self._left = MAX_BYTES

    def read(self, size):
        data = self._stream.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise Unfit(f"unpacked it is larger than {MAX_BYTES >> 30} GiB")
        return data


class Looked:
    def __init__(self):
        self._bytes = 0
        self._entries = 0
        self.text = None  # of pyproject.toml

    def entry(self, name, size):
        """Whether it is pyproject.toml."""
        self._bytes += size
        self._entries += 1
        if self._entries > MAX_ENTRIES or self._bytes > MAX_BYTES:
            raise Unfit(f"it holds more than {MAX_ENTRIES} files or {MAX_BYTES >> 30} GiB")
        inside(name, name)
        return name.count("/") == 1 and name.endswith("/pyproject.toml")

    def take(self, stream):
        data = stream.read(MAX_TEXT + 1)
        if len(data) > MAX_TEXT:
            raise Unfit(f"its pyproject.toml is longer than {MAX_TEXT >> 20} MiB")
        self.text = data.decode("utf-8")


def inside(name, path):
    if path.startswith("/") or os.path.normpath(path).split("/")[0] == "..":
        raise Unfit(f"its entry {name[:200]!r} leads out of it")


def look_through_tar(path):
    looked = Looked()
    with gzip.open(path) as unpacked, tarfile.open(fileobj=Bounded(unpacked), mode="r|") as archive:
        for member in archive:
            if member.isdev():
                raise Unfit(f"its entry {member.name[:200]!r} is a device")
            if member.issym():
                inside(member.name, os.path.join(os.path.dirname(member.name), member.linkname))
            if member.islnk():
                inside(member.name, member.linkname)
            if looked.entry(member.name, member.size) and member.isfile():
                looked.take(archive.extractfile(member))
    return looked.text


def look_through_zip(path):
    looked = Looked()
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if looked.entry(member.filename, member.file_size):
                if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise Unfit(f"it cannot be read: {member.filename[:200]!r} is compressed in another way")
                with archive.open(member) as stream:
                    looked.take(stream)
    return looked.text


def check(path):
    """The text of its pyproject.toml; None: it has none."""
    try:
        if path.endswith((".tar.gz", ".tgz")):
            return look_through_tar(path)
        if path.endswith(".zip"):
            return look_through_zip(path)
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError,
            OverflowError) as error:  # RuntimeError: it is encrypted
        raise Unfit(f"it cannot be read: {error}") from None
    raise Unfit("only .tar.gz and .zip are built")
