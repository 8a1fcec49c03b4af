"""Viewers of an episode: a window, a video file, a terminal. Each takes the steps one by one, as they are played."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from PIL import Image

from bayesrl.deployment.episode import EpisodeStep
from bayesrl.deployment.frames import SIZE, Frames


class ViewerError(ValueError):
    """A viewer is not available on this machine; the message says what to use instead."""


INSTEAD = "mode=video to write a file, or mode=terminal, which works over ssh"


class Window:
    """A window on the screen; closing it ends the watching.

    Arguments:
        fps: frames a second.
        linger: seconds that the last frame of an episode stays.

    Raises:
        ViewerError: there is no screen, or no pygame.
    """

    def __init__(self, fps: float, linger: float = 2.0) -> None:
        try:
            import pygame
        except ImportError as error:
            raise ViewerError(
                f'got mode=window without pygame, wanted it: pip install "bayesrl[classic]", or {INSTEAD}'
            ) from error
        if not has_display():
            raise ViewerError(f"got mode=window on a machine without a display, wanted one: {INSTEAD}")
        self.pygame, self.fps, self.linger = pygame, fps, linger
        try:
            pygame.display.init()
            self.surface = pygame.display.set_mode(SIZE)
        except pygame.error as error:
            raise ViewerError(f"got '{error}' opening a window, wanted a display: {INSTEAD}") from error
        pygame.display.set_caption("bayesrl.watch")
        self.clock = pygame.time.Clock()

    def show(self, frames: Frames, history: Sequence[EpisodeStep]) -> bool:
        """Show the newest step; return whether to go on."""
        picture = frames.frame(history)
        self.surface.blit(self.pygame.image.frombytes(picture.tobytes(), SIZE, "RGB"), (0, 0))
        self.pygame.display.flip()
        stay = self.linger if history[-1].ended else 0.0
        until = time.monotonic() + stay
        while self.pygame.QUIT not in {event.type for event in self.pygame.event.get()}:
            self.clock.tick(self.fps)
            if time.monotonic() >= until:
                return True
        return False

    def close(self) -> str:
        """Close the window; return a line for the user, here none."""
        self.pygame.display.quit()
        return ""


class Terminal:
    """Text, drawn over itself on a terminal; a line for each step where the output is a file or a pipe.

    Arguments:
        fps: steps a second on a terminal.
    """

    def __init__(self, fps: float) -> None:
        self.fps, self.live = fps, sys.stdout.isatty()

    def show(self, frames: Frames, history: Sequence[EpisodeStep]) -> bool:
        """Show the newest step; return True, to go on."""
        if self.live:
            text = frames.text(history, shutil.get_terminal_size().columns)
            print(f"\x1b[H\x1b[J{legible(text)}", flush=True)
            time.sleep(1 / self.fps)
        else:
            print(legible(frames.line(history[-1])), flush=True)
        return True

    def close(self) -> str:
        """Return a line for the user, here none."""
        return ""


class Film:
    """An .mp4 file (by PyAV, the extra `video`) or a .gif, whole when `close` returns.

    Arguments:
        path: ends in .mp4 or .gif.
        fps: frames a second.

    Raises:
        ViewerError: another ending, or .mp4 without PyAV.
    """

    def __init__(self, path: Path, fps: float) -> None:
        if path.suffix not in (".mp4", ".gif"):
            raise ViewerError(f"got out={path}, wanted a file that ends in .mp4 or .gif")
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.part = path, path.with_name(f".{path.stem}.part{path.suffix}")
        self.fps, self.pictures = fps, list[Image.Image]()
        self.container = None
        if path.suffix == ".mp4":
            try:
                import av
            except ImportError as error:
                raise ViewerError(
                    'got a film in .mp4 without PyAV, wanted it: pip install "bayesrl[video]", or out=FILE.gif, which '
                    "needs nothing"
                ) from error
            self.container, self.frame = av.open(str(self.part), "w"), av.VideoFrame
            self.stream = self.container.add_stream("libx264", Fraction(fps).limit_denominator(1000))
            self.stream.width, self.stream.height, self.stream.pix_fmt = *SIZE, "yuv420p"

    def show(self, frames: Frames, history: Sequence[EpisodeStep]) -> bool:
        """Add the newest step, the last one of an episode for a second; return True, to go on."""
        picture = frames.frame(history)
        for _ in range(max(1, round(self.fps)) if history[-1].ended else 1):
            if self.container is None:
                self.pictures.append(picture.quantize(64))
            else:
                self.container.mux(self.stream.encode(self.frame.from_image(picture)))
        return True

    def close(self) -> str:
        """Move the finished file to its path; return a line that names it."""
        if self.container is None:
            first, *rest = self.pictures
            first.save(self.part, "GIF", save_all=True, append_images=rest, duration=round(1000 / self.fps), loop=0)
        else:
            self.container.mux(self.stream.encode())
            self.container.close()
        os.replace(self.part, self.path)
        return f"written: {self.path}"


def has_display() -> bool:
    """Return whether a window can be opened; outside Linux the answer is always True."""
    if not sys.platform.startswith("linux") or os.environ.get("SDL_VIDEODRIVER"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def legible(text: str) -> str:
    """Return the text with ASCII in place of block characters that the output cannot encode."""
    encoding = sys.stdout.encoding or "ascii"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(str.maketrans("░▒█▁▂▃▄▅▆▇", "-=#_..::||"))
    return text
