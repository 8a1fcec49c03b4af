"""The command line: its words and options, and errors of input as sentences."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from bayesrl.experiment.building import INPUT_ERRORS
from bayesrl.experiment.config import ConfigError
from bayesrl.experiment.settings import MAX_SEED


def command(argv: list[str], function: Callable[[list[str]], int]) -> int:
    """Run a command; errors of input become one sentence and exit code 2, everything else a traceback."""
    try:
        return function(argv)
    except (*INPUT_ERRORS, OSError) as error:
        print("\n".join(f"error: {problem}" for problem in messages(error)), file=sys.stderr)
    except KeyboardInterrupt:
        return 130
    return 2


def messages(error: Exception) -> list[str]:
    """Return an error of input in a user's words, a sentence for each problem."""
    if isinstance(error, OSError):
        where = error.filename or "a file"
        remedy = "free some space, or mend its permissions"
        return [f"got '{error.strerror or error}' at {where}, wanted to read and write there: {remedy}"]
    return str(error).splitlines() if isinstance(error, ConfigError) else [str(error) or type(error).__name__]


def options(argv: list[str]) -> tuple[list[str], list[str], bool]:
    """Return directories, overrides, and whether only to show the configuration."""
    dirs, words, show = [], [], False
    rest = iter(argv)
    for word in rest:
        option, equals, value = word.partition("=")
        if option in ("--cfg", "-c"):
            value = value if equals else next(rest, "")
            if value != "job":
                raise ConfigError([f"got {option} {value}, wanted --cfg job, which prints the configuration and stops"])
            show = True
        elif option in ("--config-dir", "-cd"):
            dirs.append(value if equals else next(rest, ""))
            if not dirs[-1] or not Path(dirs[-1]).is_dir():
                raise ConfigError([f"got {option} {dirs[-1]}, wanted a directory of configuration groups"])
        elif word.startswith("-"):
            raise ConfigError([f"got the option {word}, wanted --help, --cfg job, --config-dir DIR or --multirun"])
        else:
            words.append(word)
    return dirs, words, show


def parse_words(argv: list[str], options: dict[str, str]) -> dict[str, str]:
    """Return the values of `key=value` words over their defaults."""
    words = {}
    for word in argv:
        key, equals, words[key] = word.partition("=")
        if not equals or key not in options:
            raise ConfigError([f"got {word}, wanted one of {', '.join(f'{k}=' for k in options)}"])
    return {**options, **words}


def parse_integers(words: dict[str, str], **least: int) -> list[int]:
    """Return integers among the values, each checked against its lower bound."""
    for key, low in least.items():
        if not words[key].isdecimal() or not low <= int(words[key]) <= MAX_SEED:
            raise ConfigError([f"got {key}={words[key]}, wanted an integer from {low} to {MAX_SEED}"])
    return [int(words[key]) for key in least]
