import shutil
import sys
import time

# Characters.
_BAR = 16


class Progress:
    """One line for all runs: how many are done, and the time that is left.

    Args:
        verbose: Whether to show anything. Without a terminal, it is a line a
            run.
    """

    def __init__(self, verbose):
        self._verbose = verbose
        self._terminal = sys.stdout.isatty()
        self._total = 0
        self._done = 0
        self._start = time.perf_counter()
        self._width = 0

    def expect(self, number):
        """Says how many are still to be done."""
        self._total = self._done + number

    def show(self, text):
        """Counts one more as done, and says what it was."""
        self._done += 1
        if not self._verbose:
            return
        seconds = time.perf_counter() - self._start
        left = _clock(seconds / self._done * (self._total - self._done))
        line = f"[{self._done}/{self._total}] {left} left; {text}"
        if self._terminal:
            full = _BAR * self._done // self._total
            line = f"{'█' * full}{'░' * (_BAR - full)} {line}"
            # A longer one would not be overwritten.
            line = line[: shutil.get_terminal_size().columns - 1]
            padded = line.ljust(self._width)
            self._width = len(line)
            print(f"\r{padded}", end="", flush=True)
        else:
            print(line, flush=True)

    def close(self):
        if self._verbose and self._terminal and self._done:
            print()


def _clock(seconds):
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
