"""docs/openapi.yaml as a C++ source that holds it as JSON: embed_openapi.py YAML SOURCE."""

from __future__ import annotations

import json
import pathlib
import sys

import yaml

PIECE = 4000  # characters of one literal; compilers promise 65,536 of all together joined


def main() -> None:
    source, target = map(pathlib.Path, sys.argv[1:])
    text = json.dumps(yaml.safe_load(source.read_text()), ensure_ascii=True, separators=(",", ":"))
    pieces = [text[at : at + PIECE] for at in range(0, len(text), PIECE)]
    literals = "\n".join(f"    {json.dumps(piece)}," for piece in pieces)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(
        "// Made of docs/openapi.yaml by scripts/embed_openapi.py.\n"
        '#include "gateway/openapi_document.h"\n\n'
        "#include <array>\n\n"
        "namespace mayfly {\n\n"
        "std::string openapi_base() {\n"
        f"  static constexpr std::array<std::string_view, {len(pieces)}> kPieces = {{\n"
        f"{literals}\n"
        "  };\n"
        "  std::string text;\n"
        "  for (const std::string_view piece : kPieces) text += piece;\n"
        "  return text;\n"
        "}\n\n"
        "}  // namespace mayfly\n"
    )


main()
