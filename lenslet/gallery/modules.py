"""Joins the modules of the page into one: on a slow line, each round of imports takes long."""

import re

_IMPORT = re.compile(r'^import (?:\* as (\w+)|{ (.+) }) from "\./([\w-]+\.js)";$', re.M)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:const|function\*?|class) \[?(\w+(?:, \w+)*))", re.M)
_LIVE = re.compile(r"^export let (\w+)", re.M)
_COMMENT = re.compile(r"^\t*//.*\n", re.M)  # a line of its own


def join(modules: dict[str, str], entry: str) -> str:
    """Returns the code of a module and of all that it imports, in the order in which they run.

    Lines that are comments are left out. `modules` holds their code by file name. Each becomes a
    block, and an object of its exports. An exported `let` changes for those who import it too, so
    it belongs to the whole file: modules use its name for nothing else. Cycles, and other forms of
    import and export, are not supported.
    """
    live = [name for code in modules.values() for name in _LIVE.findall(code)]
    joined: dict[str, str] = {}

    def bind(found: re.Match[str]) -> str:
        names = [name for name in (found[2] or "").split(", ") if name not in live]
        target = found[1] or "{ " + ", ".join(names).replace(" as ", ": ") + " }"
        return f"const {target} = {_object(found[3])};"

    def add(name: str) -> None:
        code = _COMMENT.sub("", modules[name])
        for found in _IMPORT.finditer(code):
            if found[3] not in joined:
                add(found[3])
        own = [each for names in _EXPORT.findall(code) for each in names.split(", ")]
        exports = [f"get {each}() {{ return {each}; }}" for each in own + _LIVE.findall(code)]
        code = _LIVE.sub(r"\1", _EXPORT.sub("", _IMPORT.sub(bind, code)))
        joined[name] = (
            f"let {_object(name)};\n{{\n{code}\n{_object(name)} = {{ {', '.join(exports)} }};\n}}\n"
        )

    add(entry)
    return "".join([*(f"let {name};\n" for name in live), *joined.values()])


def _object(name: str) -> str:
    return f"${name.removesuffix('.js')}"
