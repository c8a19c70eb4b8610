"""A real S3-compatible store for tests: SeaweedFS, on free ports of loopback, with one bucket."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import quote

from node import free_port, wait_until

WEED = Path(sys.executable).with_name("weed")
START = 120.0  # seconds: usually four


class ObjectStore:
    """Starts on construction. `kill` takes it away, with what it holds kept; `start` brings it back."""

    access_key = "mayflytest"
    secret_key = "not-a-secret-but-shaped-like-one"
    bucket = "mayfly-test"

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="mayfly-s3-"))
        (self.folder / "data").mkdir()
        self.log = self.folder / "log"
        self.credentials = self.folder / "credentials"
        self.allow()
        actions = ["Admin", "Read", "List", "Tagging", "Write"]
        keys = [{"accessKey": self.access_key, "secretKey": self.secret_key}]
        identities = [{"name": "node", "credentials": keys, "actions": actions}]
        (self.folder / "s3.json").write_text(json.dumps({"identities": identities}))
        names = ("master", "volume", "filer", "s3")
        self._ports = {name: (free_port(), free_port()) for name in names}
        self.url = f"http://127.0.0.1:{self._ports['s3'][0]}"
        self.start()
        wait_until(lambda: self._curl("-X", "PUT", "") == 200, "a bucket can be made", START)

    def start(self) -> None:
        command = [str(WEED), "server", "-s3", f"-s3.config={self.folder / 's3.json'}"]
        command += [f"-dir={self.folder / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
        command += ["-master.telemetry=false", "-master.volumeSizeLimitMB=256", "-volume.max=32"]
        command += ["-s3.port.iceberg=0", "-s3.port.lance=0"]
        for name, (port, grpc) in self._ports.items():
            command += [f"-{name}.port={port}", f"-{name}.port.grpc={grpc}"]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder
            )
        wait_until(lambda: self._curl("") in (200, 404), "the object store answers", START)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(START)

    def hold(self) -> None:
        """From now on it takes connections and says nothing."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        if self.process.poll() is None:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def allow(self) -> None:
        self._write_credentials(self.secret_key)

    def refuse(self) -> None:
        """From now on the node signs with another secret."""
        self._write_credentials("something-else")

    def _write_credentials(self, secret: str) -> None:
        text = f"[default]\naws_access_key_id = {self.access_key}\naws_secret_access_key = {secret}\n"
        fresh = self.credentials.with_suffix(".new")
        fresh.write_text(text)
        os.replace(fresh, self.credentials)

    def settings(self, prefix: str) -> tuple[str, ...]:
        """Flags of `mayfly serve`."""
        where = ("--store-s3", f"s3://{self.bucket}/{prefix}", "--store-s3-endpoint", self.url)
        return (*where, "--store-s3-credentials", str(self.credentials))

    @property
    def environment(self) -> dict[str, str]:
        return {"AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret_key}

    def put(self, key: str, content: bytes) -> None:
        spool = self.folder / "spool"
        spool.write_bytes(content)
        if self._curl("-T", str(spool), key) != 200:
            raise AssertionError(f"the object store does not take {key}")

    def keys(self, prefix: str = "") -> list[str]:
        listed = self._curl_text(f"?list-type=2&prefix={quote(prefix, safe='')}")
        return [part.split("</Key>")[0] for part in listed.split("<Key>")[1:]]

    def uploads(self, prefix: str) -> list[str]:
        """Keys of uploads in parts that have begun and not ended."""
        listed = self._curl_text(f"?prefix={quote(prefix, safe='')}&uploads=")
        return [part.split("</Key>")[0] for part in listed.split("<Key>")[1:]]

    def sha256(self, key: str) -> str:
        return hashlib.sha256(self._run(key).stdout).hexdigest()

    def _run(self, *arguments: str) -> subprocess.CompletedProcess:
        *options, target = arguments
        return subprocess.run(
            ["curl", "-s", "-m", "60", "--aws-sigv4", "aws:amz:us-east-1:s3"]
            + ["-u", f"{self.access_key}:{self.secret_key}", *options]
            + [f"{self.url}/{self.bucket}{'' if target.startswith('?') or not target else '/'}{target}"],
            capture_output=True,
            check=False,
        )

    def _curl(self, *arguments: str) -> int:
        *options, target = arguments
        status = ("-o", os.devnull, "-w", "%{http_code}")
        return int(self._run(*status, *options, target).stdout or b"0")

    def _curl_text(self, target: str) -> str:
        return self._run(target).stdout.decode()
