"""The trainer's process: runs the job and leaves its cause of failure. Imports only the standard library by itself."""

import argparse
import errno
import os
import sys
import traceback

from icemaker import environment
from icemaker.errors import StopRequested, UserError


def main() -> int:
    """Train; 0 for done or cleanly stopped, 1 with a failure file for anything else."""
    parser = argparse.ArgumentParser(prog="train", add_help=False)
    parser.add_argument("--help", "-h", action="store_true")
    parser.add_argument("--hyperparameters-page", action="store_true")
    arguments = parser.parse_args()
    if arguments.help or arguments.hyperparameters_page:
        from icemaker.training import help as help_pages

        sys.stdout.write(help_pages.page() if arguments.hyperparameters_page else help_pages.text())
        return 0
    oom_kills = environment.oom_kill_count()
    env = None
    try:
        env = environment.read()
        from icemaker import log

        log.set_up()
        from icemaker.training.run import run

        run(env)
    except StopRequested:
        if env is not None:
            environment.mark_stopped_before_first_step(env)
        print("INFO Stopped before the first optimizer step: no model was written.", flush=True)  # noqa: T201
    except UserError as error:
        return _fail(str(error))
    except BaseException as error:
        details = traceback.format_exc()
        sys.stderr.write(details)
        sys.stderr.flush()
        return _fail(_cause(error, oom_kills) + "\n\n" + details)
    return 0


def _fail(text: str) -> int:
    print(f"ERROR {text.splitlines()[0] if chr(10) + chr(10) in text else text}", flush=True)  # noqa: T201
    environment.write_failure(text)
    return 1


def _cause(error: BaseException, oom_kills: int | None) -> str:
    """One line that says why, from an exception that is nobody's UserError."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in (errno.ENOSPC, errno.EDQUOT):
            where = f" while writing {seen.filename}" if seen.filename else ""
            return f"The disk is full{where}. Use a larger volume (VolumeSizeInGB), or write less."
        seen = seen.__cause__ or seen.__context__
    text = " ".join(str(error).split())
    if "DataLoader worker" in text:
        if oom_kills is not None and (environment.oom_kill_count() or 0) > oom_kills:
            return (
                "A loader process was killed for memory. Use a smaller num_workers, batch_size or img_size, or an "
                "instance with more memory."
            )
        return f"A loader process died: {text[:300]}. Try num_workers 0 to see its cause."
    return f"{type(error).__name__}: {text[:600]}"


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads of libraries that linger must not hold a finished job.
    os._exit(status)
