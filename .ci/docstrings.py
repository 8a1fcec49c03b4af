"""How docstrings of this project are read for the reference."""

import re

import griffe


class OneName(griffe.Extension):
    """Split `a, b: what they are`, which describes two arguments, into a line for each name in the signature."""

    def on_object(self, *, obj, **_):
        if obj.docstring:
            obj.docstring.value = re.sub(r"^( +)(\w+(?:, \w+)+):(?=\s)", self.split, obj.docstring.value, flags=re.M)

    @staticmethod
    def split(line: re.Match) -> str:
        *others, last = line[2].split(", ")
        return "".join(f"{line[1]}{name}: see `{last}`\n" for name in others) + f"{line[1]}{last}:"
