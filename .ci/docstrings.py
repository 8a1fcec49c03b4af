"""How docstrings of this project are read for the reference."""

import re

import griffe


class OneName(griffe.Extension):
    """`a, b: what they are` tells of two arguments, each of which must be in the signature."""

    def on_object(self, *, obj, **_):
        if obj.docstring:
            told = re.sub(r"^( +)(\w+(?:, \w+)+): ", self.apart, obj.docstring.value, flags=re.M)
            obj.docstring.value = told

    @staticmethod
    def apart(line: re.Match) -> str:
        *others, last = line[2].split(", ")
        return "".join(f"{line[1]}{name}: see `{last}`\n" for name in others) + f"{line[1]}{last}: "
