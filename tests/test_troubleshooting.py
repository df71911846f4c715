"""docs/troubleshooting.md lists every alarm and every message, and nothing that is not there."""

import ast
import itertools
import re

from began_jax import health
from tests.conftest import ROOT

ERRORS = {"UserError", "ConfigError", "CheckpointError", "Lost"}
DOCUMENT = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")


def text(node):
    """A message's text with … for every value."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(text(part) for part in node.values)
    if isinstance(node, ast.BinOp):
        return text(node.left) + text(node.right)
    return "…"


def messages():
    """Of errors for users, wherever one is made or a `message` for one is."""
    found = set()
    sources = [(ROOT / "began_jax").rglob("*.py"), (ROOT / "launch").glob("*.py")]
    for path in [ROOT / "main.py", *itertools.chain(*sources)]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and node.args and is_error(node.func):
                found.add(text(node.args[0]))
            elif isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "message":
                found.add(text(node.value))
            elif isinstance(node, ast.ClassDef) and any(map(is_error, node.bases)):
                found.update(text(call.args[0]) for call in ast.walk(node) if is_init(call))
    return {" ".join(message.split()) for message in found if re.search("[a-z]", message)}


def is_error(node):
    return getattr(node, "attr", getattr(node, "id", None)) in ERRORS


def is_init(node):
    """super().__init__(...)"""
    return isinstance(node, ast.Call) and node.args and getattr(node.func, "attr", "") == "__init__"


def first_column(section):
    body = DOCUMENT.split(f"\n## {section}\n")[1].split("\n## ")[0]
    return {cell.replace("\\|", "|") for cell in re.findall(r"^\| `(.+?)` \|", body, re.MULTILINE)}


def test_every_message_is_listed_and_no_other():
    assert first_column("Messages") == messages()


def test_every_line_says_why_and_what_to_do():
    lines = [line for line in DOCUMENT.splitlines() if line.startswith("| `")]
    cells = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines]
    assert {len(line) for line in cells} == {3, 4}  # messages, alarms
    assert all(cell.strip() for line in cells for cell in line)


def test_every_alarm_is_listed_and_no_other():
    assert first_column("Alarms") == {*health.ALARMS, "tensorboard"}
