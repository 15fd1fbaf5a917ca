"""``command:CMD``: any program that reads a prompt on standard input and writes its answer to standard output.

The command is split as a shell would, and run without one. It runs where KernelGrove runs, with its environment: it is
the user's own program, and no candidate.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess

from kernelgrove.errors import UsageError

from .failures import CallFailed, Failure
from .wire import Finish, Question, Reply, dump, raw

#: Longer answers are no answers.
MAX_BYTES = 16 * 1024 * 1024


class CommandClient:
    """Raises UsageError for a command that is not there."""

    def __init__(self, command: str, deadline_s: float = 1800.0) -> None:
        try:
            self._words = shlex.split(command)
        except ValueError as error:
            raise UsageError(f"--model command:{command} cannot be read: {error}.", "Check its quotes.") from None
        if not self._words:
            raise UsageError("--model command: names no command.", 'Write command:"llm -m local".')
        if shutil.which(self._words[0]) is None:
            raise UsageError(
                f"There is no program {self._words[0]!r} (in --model command:{command}).", "Check its path."
            )
        self._name = f"command:{command}"
        self._deadline_s = deadline_s

    def send(self, question: Question) -> Reply:
        text = "\n\n".join(
            part
            for part in (question.system, question.shared, question.specific, *(t.text for t in question.turns))
            if part
        )
        request = dump({"command": self._words, "stdin": text})
        try:
            process = subprocess.Popen(
                self._words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is for the controller, which then decides
            )
        except OSError as error:
            raise CallFailed(
                Failure.BAD_REQUEST,
                f"{self._name} could not be started: {error.strerror}.",
                proposal=raw(request, failure=Failure.BAD_REQUEST),
            ) from error
        try:
            out, err = process.communicate(text.encode(), timeout=self._deadline_s)
        except subprocess.TimeoutExpired as error:
            _kill(process)
            raise CallFailed(
                Failure.TIMEOUT,
                f"{self._name} did not end within {self._deadline_s:.0f} s.",
                in_doubt=True,
                proposal=raw(request, failure=Failure.TIMEOUT),
            ) from error
        except BaseException:
            _kill(process)
            raise
        answer, said = out.decode(errors="replace"), err.decode(errors="replace").strip()
        response = dump({"exit": process.returncode, "stdout": answer[:MAX_BYTES], "stderr": said[-10_000:]})
        if process.returncode != 0:
            last = said.splitlines()[-1] if said else "it said nothing"
            raise CallFailed(
                Failure.SERVER,
                f"{self._name} ended with code {process.returncode}: {last[:300]}.",
                proposal=raw(request, response, failure=Failure.SERVER),
            )
        if len(out) > MAX_BYTES:
            raise CallFailed(
                Failure.BAD_REQUEST,
                f"{self._name} wrote {len(out)} bytes; an answer has at most {MAX_BYTES}.",
                proposal=raw(request, response, failure=Failure.BAD_REQUEST),
            )
        return Reply(answer, None, Finish.DONE, request, response)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End it and what it started; its session has its own process id as its group's."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
