"""What was probably meant: a mistake of usage as one line, with the words that would have been right."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import click

# What other tools, and the columns of rows, call our options.
CALLED_OTHERWISE = {
    "--arch": ("architecture", "architectures", "archs"),
    "--bs": ("batch", "batch-size", "batch-sizes", "batchsize"),
    "--calibration": ("calib", "train", "train-dir", "train-data"),
    "--device": ("gpu", "cuda"),
    "--estimator": ("estimators", "rule"),
    "--evaluation": ("eval", "test", "val", "val-dir", "val-data", "validation"),
    "--image-size": ("img-size", "imgsz", "input-size", "size"),
    "--jobs": ("n-jobs", "num-workers", "workers"),
    "--model": ("net", "network"),
    "--momentum": ("momenta",),
    "--out": ("dir", "folder", "out-dir", "outdir", "output-dir"),
    "--repeats": ("orders", "seeds"),
    "--samples": ("images-needed", "n-images", "n-samples", "num-images", "num-samples"),
    "--study": ("config",),
    "--task": ("data-set", "dataset"),
    "--weights": ("checkpoint", "ckpt", "pretrained"),
}
_OF_KIND = {".toml": "--study", **dict.fromkeys((".pt", ".pth", ".safetensors"), "--weights")}
_MEANT = {word: option for option, words in CALLED_OTHERWISE.items() for word in words}


def message_of(error: click.ClickException, words: Sequence[str]) -> str:
    """The error's line, with what to write instead of these words of the command line, if that is known."""
    if isinstance(error, click.NoSuchOption) and error.ctx is not None:
        meant = _MEANT.get(error.option_name.lstrip("-").lower().replace("_", "-"))
        if meant is not None and meant in _options(error.ctx.command):
            return f"no such option: {error.option_name}; did you mean {meant}?"
    if isinstance(error, click.MissingParameter) and isinstance(error.param, click.Option):
        help = (error.param.help or "").strip().rstrip(".")
        return f"{error.format_message().rstrip('.')}: {help[:1].lower()}{help[1:]}"
    if type(error) is click.UsageError and error.ctx is not None and "unexpected extra" in error.message:
        joined = _joined(words, _lists(error.ctx.command))
        if joined:
            return f"{error.message}; a list is one word: {' '.join(joined)}"
        named = _named(words, _options(error.ctx.command))
        if named is not None:
            return f"{error.message}; did you mean {named}?"
    return error.format_message()


def _options(command: click.Command) -> set[str]:
    return {name for parameter in command.params for name in parameter.opts}


def _lists(command: click.Command) -> set[str]:
    """The options of the command that take comma lists."""
    from bnrecal.cli.options import comma_list

    return {name for p in command.params if p.callback is comma_list for name in p.opts}


def _named(words: Sequence[str], options: set[str]) -> str | None:
    """A file among the words with the option that takes files of its kind, where that was left out."""
    for before, word in itertools.pairwise(["", *words]):
        option = _OF_KIND.get(Path(word).suffix)
        if option in options and not before.startswith("-"):
            return f"{option} {word}"
    return None


def _joined(words: Sequence[str], lists: set[str]) -> list[str]:
    """The lists that were given as several words, each as the one word it has to be: "--bs 8,16"."""
    found = []
    for at, word in enumerate(words):
        option, equals, first = word.partition("=")
        if option not in lists:
            continue
        values = [first] if equals else []
        for more in words[at + 1 :]:
            if more.startswith("-"):
                break
            values.append(more)
        items = [item.strip() for value in values for item in value.split(",")]
        if len(values) > 1:
            found.append(f"{option} {','.join(filter(None, items))}")
    return found
