"""The conventions of the source that a linter does not know: sizes, docstrings, numbers and spelling."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve()
ROOT = HERE.parent.parent
SOURCE = sorted(path for folder in ("bayesrl", "agents", "envs") for path in (ROOT / folder).rglob("*.py"))
PYTHON = [*SOURCE, *sorted((ROOT / "tests").rglob("*.py")), *sorted((ROOT / "examples").rglob("*.py"))]
OTHERS = ("*.md", "*.toml", "docs/*.md", "configs/**/*.yaml", ".ci/*", ".github/**/*.md", ".github/**/*.yml")
TEXTS = [*PYTHON, *(path for pattern in OTHERS for path in sorted(ROOT.glob(pattern)) if path.is_file())]
OLD_NAMES = (ROOT / "bayesrl" / "experiment" / "legacy.py", ROOT / "CHANGELOG.md")  # name what version 0.1.0 named

LINES, CODE = 400, 50
FRAGMENT = re.compile(r"(Of|That|What|Whose|How far)\b")
BARE_DECIMAL = re.compile(r"(?<![\w.:%,\]\\'\"*/{}<>])\.\d")
BRITISH = re.compile(  # but for the title of a paper
    r"\b\w*("
    r"behaviour(?! Suite)|colour|favour(?!ite)|flavour|honour|neighbour|rumour|labour|"
    r"centre|centring|metres?\b|litre|"
    r"(normal|optim|vector|discret|initial|general|regular|summar|recogn|organ|minim|maxim|standard|random|parametr|"
    r"parameter|factor|visual|serial|stabil|penal|quant|marginal|util|character|categor|token|memor|special|final|"
    r"priorit|synchron|formal|local|global|ideal|material|polar|equal|neutral|linear|real)is(e|es|ed|er|ers|ing|ation)\b|"
    r"analys(e|ed|ing)\b|labell|modell|travell|cancell(ed|ing)|signall|artefact|catalogue|grey|licence|defence|"
    r"learnt|whilst|amongst|programme\b|fulfil\b|judgement|ageing|cheque"
    r")\w*",
    re.IGNORECASE,
)
ELSEWHERE = re.compile(r"\b[Ii]ssue #?\d|/work/|/tmp/w/|/home/\w|/Users/\w")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def docstrings(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of every docstring."""
    for node in ast.walk(ast.parse(path.read_text())):
        is_documentable = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if is_documentable and (text := ast.get_docstring(node)):
            yield getattr(node, "lineno", 1), text


def comments_and_strings(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of every line of a comment or of a string."""
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        if token.type in (tokenize.COMMENT, tokenize.STRING) or tokenize.tok_name[token.type] == "FSTRING_MIDDLE":
            yield from enumerate(token.string.splitlines(), token.start[0])


def lines_of_code(function: ast.FunctionDef | ast.AsyncFunctionDef, source: list[str]) -> int:
    """Count the lines of a function that hold code: neither blank, nor comment, nor docstring."""
    skipped: set[int] = set()
    if ast.get_docstring(function):
        first = function.body[0]
        skipped = set(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    numbers = range(function.lineno, (function.end_lineno or function.lineno) + 1)
    return sum(i not in skipped and bool(line := source[i - 1].strip()) and not line.startswith("#") for i in numbers)


def test_docstrings_are_sentences() -> None:
    found = [
        f"{name(path)}:{line}: {text.splitlines()[0]}"
        for path in SOURCE
        for line, text in docstrings(path)
        if FRAGMENT.match(text)
    ]
    assert not found, "\n".join(found)


def test_files_are_short() -> None:
    lengths = {name(path): len(path.read_text().splitlines()) for path in PYTHON}
    assert {file: n for file, n in lengths.items() if n > LINES} == {}


def test_functions_are_short() -> None:
    """Tests too: one that needs more is two."""
    long = {}
    for path in PYTHON:
        lines = path.read_text().splitlines()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (n := lines_of_code(node, lines)) > CODE:
                long[f"{name(path)}:{node.lineno}: {node.name}"] = n
    assert long == {}


def test_decimals_have_a_leading_zero() -> None:
    found = [
        f"{name(path)}:{line}: {text.strip()}"
        for path in PYTHON
        for line, text in comments_and_strings(path)
        if BARE_DECIMAL.search(text)
    ]
    assert not found, "\n".join(found)


def test_spelling_is_american() -> None:
    found = [
        f"{name(path)}:{line}: {match[0]}"
        for path in TEXTS
        if path not in (*OLD_NAMES, HERE)
        for line, text in enumerate(path.read_text().splitlines(), 1)
        for match in BRITISH.finditer(text)
    ]
    assert not found, "\n".join(found)


def test_the_text_names_nothing_outside_the_repository() -> None:
    """Neither numbers of issues nor paths of one machine."""
    found = {name(path): ELSEWHERE.findall(path.read_text()) for path in TEXTS if path != HERE}
    assert {file: words for file, words in found.items() if words} == {}
