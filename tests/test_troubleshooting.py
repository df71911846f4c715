"""docs/troubleshooting.md lists every alarm and every message, and nothing that is not there."""

import ast
import re

from began_jax import health
from tests.conftest import ROOT

ERRORS = {"UserError", "ConfigError", "CheckpointError"}
DOCUMENT = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")


def text(node):
    """A message's text with … for every value."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(text(part) for part in node.values)
    return "…"


def messages():
    """Of errors for users, where they are raised, or where a `message` for one is made."""
    found = set()
    for path in [ROOT / "main.py", *(ROOT / "began_jax").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                called = node.exc.func
                name = called.attr if isinstance(called, ast.Attribute) else called.id
                if name in ERRORS and node.exc.args:
                    found.add(text(node.exc.args[0]))
            elif isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "message":
                found.add(text(node.value))
    return {" ".join(message.split()) for message in found if re.search("[a-z]", message)}


def first_column(section):
    body = DOCUMENT.split(f"\n## {section}\n")[1].split("\n## ")[0]
    return {cell.replace("\\|", "|") for cell in re.findall(r"^\| `(.+?)` \|", body, re.MULTILINE)}


def test_every_message_is_listed_and_no_other():
    assert first_column("Messages") == messages()


def test_every_alarm_is_listed_and_no_other():
    assert first_column("Alarms") == {*health.ALARMS, "tensorboard"}
