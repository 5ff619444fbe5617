"""The node protocol as data, to compare two versions of it.

To keep the protocol as it is now, after PROTOCOL was raised:

    .venv/bin/python -m tests.support.wire_schema > tests/support/wire_protocol_N.json
"""

from __future__ import annotations

import json
import re
import typing
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from scheduling.wire import messages

Schema = dict[str, dict[str, Any]]


def schema_of(module: ModuleType) -> Schema:
    """Return each message with its tag and its fields as [name, type, required], in order."""
    found: Schema = {}
    for name, kind in sorted(vars(module).items()):
        if (
            isinstance(kind, type)
            and issubclass(kind, msgspec.Struct)
            and kind is not msgspec.Struct
        ):
            hints = typing.get_type_hints(kind, include_extras=True)
            found[name] = {
                "array": kind.__struct_config__.array_like,
                "tag": kind.__struct_config__.tag,
                "fields": [
                    [field.encode_name, _words(hints[field.name]), field.required]
                    for field in msgspec.structs.fields(kind)
                ],
            }
    return found


def _words(hint: Any) -> str:
    text = hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)
    return re.sub(r"\b(scheduling\.wire\.\w+|typing)\.", "", text)


def stored_schema(protocol: int) -> Schema:
    """Return the schema of this protocol version, stored in wire_protocol_N.json."""
    path = Path(__file__).with_name(f"wire_protocol_{protocol}.json")
    found: Schema = json.loads(path.read_text(encoding="utf-8"))
    return found


def misreadings(before: Schema, after: Schema) -> list[str]:
    """Return why a peer of one version would misread the other; [] if both understand each other.

    Unknown fields are skipped and missing ones have a default, so optional fields may be added: at
    the end, where a message is an array.
    """
    found = []
    for name, old in before.items():
        new = after.get(name)
        if new is None:
            found.append(f"{name} is gone")
            continue
        if (old["array"], old["tag"]) != (new["array"], new["tag"]):
            found.append(f"{name} is encoded in another way")
        fields = {field: (kind, required) for field, kind, required in new["fields"]}
        for field, kind, required in old["fields"]:
            if field not in fields:
                found.append(f"{name}.{field} is gone")
            elif fields[field][0] != kind:
                found.append(f"{name}.{field} was {kind} and is {fields[field][0]}")
            elif fields[field][1] and not required:
                found.append(f"{name}.{field} is required now")
        known = [field for field, _, _ in old["fields"]]
        for field, _, required in new["fields"]:
            if field not in known and required:
                found.append(f"{name}.{field} is new and required")
        if old["array"] and [field for field, _, _ in new["fields"]][: len(known)] != known:
            found.append(f"{name} has its fields in another order")
    return found


if __name__ == "__main__":
    lines = [
        f"{json.dumps(name)}: {json.dumps(kind)}" for name, kind in schema_of(messages).items()
    ]
    print("{\n" + ",\n".join(lines) + "\n}")
