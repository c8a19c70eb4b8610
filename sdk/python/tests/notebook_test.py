"""The notebook runs from its first cell to its last, against a node without any function."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import io
import json
import os
from unittest import mock

from sdk_case import ROOT, SdkCase

NOTEBOOK = ROOT / "sdk" / "python" / "notebooks" / "first_steps.ipynb"


def run_cells(cells: list[str]) -> tuple[dict, str]:
    """The names that they leave, and what they print. As in a notebook, `await` may stand at the top of a cell."""
    names: dict = {"__name__": "__main__"}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        for number, cell in enumerate(cells):
            flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
            done = eval(compile(cell, f"cell {number}", "exec", flags=flags), names)
            if inspect.iscoroutine(done):
                asyncio.run(done)
    return names, printed.getvalue()


class NotebookTest(SdkCase):
    def test_it_runs_and_says_what_it_promises(self) -> None:
        notebook = json.loads(NOTEBOOK.read_text())
        self.assertEqual(notebook["nbformat"], 4)
        code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
        for cell in code:
            self.assertEqual(cell["outputs"], [], "clear the outputs before a commit")
        with mock.patch.dict(os.environ, {"MAYFLY_URL": self.node.url}):
            names, printed = run_cells(["".join(cell["source"]) for cell in code])
        self.assertGreater(names["accuracy"], 0.9)
        self.assertEqual(names["refusal"].reason, "invalid_input")
        self.assertEqual(len(names["replies"]), len(names["others"]))
        self.assertIn("publishing", printed)
        self.assertIn("hint:", printed)
        self.assertGreaterEqual(sum(row.requests for row in names["usage"].rows), 50)
        self.assertEqual(self.mayfly.functions(), [])
