"""Includes go one way. Every `#include "folder/…"` in src/ must name the file's own folder or one that
stands above it in the data-flow order below; siblings never see each other's internals."""

import pathlib
import re
import sys

ORDER = [
    "base", "async", "core", "sketch", "rollout", "validation", "search", "net", "trace", "signing", "store", "remote", "identity", "registry", "meter", "sandbox",
    "runner", "publish",
    "dispatch", "serving", "events", "jobs", "data", "training", "gateway", "grpc", "cli", "app",
]
# Narrower than the order alone: what may be seen of the folders above.
FORBIDDEN = {
    "core": {"async"},                                   # values and codecs: no I/O, no waiting
    "rollout": {"async"},                                # the same
    "validation": {"async", "core", "rollout"},
    "search": {"async", "rollout", "validation"},
    "sketch": {"async", "core"},
    "net": {"rollout"},
    "trace": {"rollout"},
    "signing": {"async", "rollout", "validation", "search", "net", "trace"},  # values
    "store": {"rollout", "net", "trace", "signing"},
    "remote": {"rollout", "validation", "search", "trace", "signing"},  # tests alone wait on a loop
    "identity": {"async", "remote", "rollout", "net", "trace"},
    "registry": {"remote", "net", "trace", "identity", "signing"},
    "meter": {"remote", "rollout", "net", "trace", "identity", "registry", "signing"},
    "sandbox": {"remote", "rollout", "net", "trace", "store", "identity", "registry", "meter", "signing"},
    "runner": {"remote", "async", "rollout", "net", "trace", "store", "identity", "registry", "meter", "signing"},
    "publish": {"remote", "rollout", "net", "trace", "identity", "meter", "runner"},
    "dispatch": {"remote", "rollout", "net", "trace", "identity", "runner", "publish", "signing"},
    "serving": {"remote", "runner", "net"},                        # HTTP and gRPC alike
    "events": {"remote", "runner", "net", "trace", "identity", "rollout", "sandbox", "publish", "signing"},  # no protocol
    "jobs": {"remote", "runner", "net", "trace", "identity", "rollout", "meter", "dispatch", "serving", "signing"},  # no protocol
    "data": {"runner", "remote", "net", "trace", "identity", "rollout", "meter", "dispatch", "serving", "signing"},
    "training": {"runner", "remote", "net", "trace", "identity", "rollout", "meter", "dispatch", "serving", "events", "signing"},
    "gateway": {"runner"},
    "grpc": {"remote", "runner", "store", "registry", "meter", "publish", "events", "jobs", "data", "training"},
    "cli": {"trace", "identity", "runner", "dispatch", "serving", "events", "jobs", "data", "training", "gateway", "publish", "sandbox", "grpc"},
}
# Subfolders of values: all who stand below may see them, whatever FORBIDDEN says of their parents.
VALUES = {"runner/report"}
INCLUDE = re.compile(r'^\s*#include "([a-z/]+)/', re.M)


def main() -> int:
    root = pathlib.Path(__file__).resolve().parent.parent / "src"
    wrong = []
    files = [f for f in sorted(root.rglob("*")) if f.suffix in (".cc", ".h")]
    for file in files:
        folder = file.relative_to(root).parts[0]
        if folder not in ORDER:
            wrong.append(f"{file}: '{folder}' has no place in the order of {pathlib.Path(__file__).name}")
            continue
        above = set(ORDER[: ORDER.index(folder) + 1]) - FORBIDDEN.get(folder, set())
        for seen in sorted(set(INCLUDE.findall(file.read_text()))):
            parent = seen.split("/")[0]
            below_values = seen in VALUES and ORDER.index(parent) <= ORDER.index(folder)
            if parent in ORDER and parent not in above and not below_values:
                wrong.append(f"{file.relative_to(root.parent)}: {folder}/ may not include {seen}/")
    print("\n".join(wrong) if wrong else f"layers: {len(files)} files, every include goes one way")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
