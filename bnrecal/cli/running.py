"""Options that say how and where passes are run, and the executor they ask for."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bnrecal.cli import completion
from bnrecal.cli.options import Command, device_option

if TYPE_CHECKING:
    from bnrecal.executors.executor import Executor
    from bnrecal.plan.opened import Opened
    from bnrecal.study.inputs import Inputs

RUNNING: tuple[Callable[[Any], Any], ...] = (
    device_option,
    click.option("-j", "--jobs", type=click.IntRange(min=1), envvar="BNRECAL_JOBS", help="Passes at a time."),
    click.option(
        "--executor",
        envvar="BNRECAL_EXECUTOR",
        shell_complete=completion.of("executor"),
        help="inline, local or ray.  [inline; local with -j 2 or more]",
    ),
    click.option("--address", envvar="BNRECAL_ADDRESS", help="Of a Ray cluster: HOST:PORT or auto."),
    click.option(
        "--threads",
        type=click.IntRange(min=1),
        envvar="BNRECAL_THREADS",
        help="Processor threads of each process.  [torch's choice, fewer while others keep processors busy]",
    ),
    click.option(
        "--timeout",
        type=click.FloatRange(min=0, min_open=True),
        envvar="BNRECAL_TIMEOUT",
        help="Seconds a pass may take (one walk over the images, for all its sample counts).",
    ),
)


@dataclass(frozen=True)
class Running:
    """What the options below say."""

    device: str
    jobs: int | None
    executor: str | None
    address: str | None
    threads: int | None
    timeout: float | None

    @property
    def name(self) -> str:
        """The executor asked for, or the one -j asks for."""
        return self.executor or ("local" if self.jobs and self.jobs > 1 else "inline")

    def open(self, inputs: "Inputs", opened: "Opened | None" = None, out: Path | None = None) -> "Executor":
        """The executor, to be entered; in this process it takes what is `opened` already.

        `out` is the output folder, where trained networks lie.

        Raises BnrecalError for what cannot be: no such GPU, no Ray.
        """
        from bnrecal import executors
        from bnrecal.executors.executor import Job
        from bnrecal.host.device import check_device_name, choose_device
        from bnrecal.store.artefacts import trained_folder

        check_device_name(self.device)
        if self.device.startswith("cuda") and self.name != "ray":
            choose_device(self.device)  # refuse before anything is written
        trained = str(trained_folder(out).resolve()) if out is not None else None
        job = Job(inputs, self.device, self.threads, self.timeout, trained)
        return executors.of(self.name, job, self.jobs, self.address, opened)


def running_options(command: Command) -> Command:
    """The options of `Running`; the command gets them as its keyword `running`."""

    def wrapped(context: click.Context, /, **options: Any) -> Any:
        names = ("device", "jobs", "executor", "address", "threads", "timeout")
        running = Running(**{name: options.pop(name) for name in names})
        return command(context, running=running, **options)

    wrapped.__doc__, wrapped.__name__ = command.__doc__, getattr(command, "__name__", "command")
    wrapped.__click_params__ = getattr(command, "__click_params__", [])  # type: ignore[attr-defined]
    for option in reversed(RUNNING):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[return-value]
