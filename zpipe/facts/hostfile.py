"""DeepSpeed's hostfile: which hosts take part with which slots, after launcher.include and launcher.exclude.

The syntax is that of deepspeed/launcher/runner.py (_parse_hostfile, parse_resource_filter), without what it
accepts and ignores.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from zpipe.paths import expanded
from zpipe.plans.plan import Host
from zpipe.problems import Fix, Problem, either, nearest
from zpipe.runfolder.foreign_files import read_text
from zpipe.schema.launcher import Launcher

MOST_SLOTS = 1024
_MOST_BYTES = 1 << 20
_LINE = re.compile(r"(?P<host>\S+)\s+slots=(?P<slots>\S+)(?P<rest>.*)")
_SLOTS = re.compile(r"[0-9]{1,4}")
_NAME = re.compile(r"[A-Za-z0-9_](?:[\w.-]*[A-Za-z0-9_])?", re.ASCII)
"""Neither an option of ssh, nor a pattern of pdsh, nor a word that a shell changes."""
_SLOT_LIST = re.compile(r"[0-9]{1,4}(?:,[0-9]{1,4})*")
_SYNTAX = "HOST slots=NUMBER, comments with #"
_GRAMMAR = "HOST or HOST:SLOT,SLOT, several joined by @"


@dataclass(frozen=True)
class HostsRead:
    """The hosts of a run in the order of the file, each with as many slots as the others, or the problems."""

    hosts: tuple[Host, ...] = ()
    problems: tuple[Problem, ...] = ()


def read_hosts(settings: Launcher) -> HostsRead:
    """Nothing if there is no hostfile."""
    if settings.hostfile is None:
        return HostsRead()
    try:
        text = read_text(Path(os.path.realpath(expanded(settings.hostfile))), _MOST_BYTES)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a text file"
        allowed = f"a file with lines of the form {_SYNTAX}"
        return HostsRead(problems=(_in_file(settings, f"cannot be read: {reason}", allowed),))
    problems: list[Problem] = []
    listed = _listed(text, settings, problems)
    if not listed and not problems:
        problems.append(_in_file(settings, "there is no host in it", _SYNTAX))
    if problems:  # what a filter names may be on a line that cannot be read
        return HostsRead(problems=tuple(problems))
    chosen = _filtered(listed, settings, problems)
    if not problems:
        problems += _unequal(chosen, settings)
    return HostsRead(() if problems else tuple(chosen), tuple(problems))


def hostfile_text(hosts: Sequence[Host]) -> str:
    """A hostfile in which every slot that is used has a line to be on."""
    return "".join(f"{host.name} slots={max(host.slots) + 1}\n" for host in hosts)


def inclusion(hosts: Sequence[Host]) -> str:
    """The same hosts and slots as an argument of --include."""
    return "@".join(f"{host.name}:{','.join(map(str, host.slots))}" for host in hosts)


def _listed(text: str, settings: Launcher, problems: list[Problem]) -> dict[str, range]:
    """The slots of every host in the file."""
    found: dict[str, range] = {}
    lines: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        content = line.partition("#")[0].strip()
        if not content:
            continue
        match = _LINE.fullmatch(content)
        wrong = _wrong(match, lines)
        if match is None or wrong:
            problems.append(_in_file(settings, f"line {number}, `{_brief(content)}`: {wrong}", _SYNTAX))
            continue
        lines[match["host"]] = number
        found[match["host"]] = range(int(match["slots"]))
    return found


def _wrong(match: "re.Match[str] | None", lines: Mapping[str, int]) -> str:
    """What is wrong with a line; empty if nothing is."""
    if match is None:
        return "not a host and its slots"
    host, slots = match["host"], match["slots"]
    if not _NAME.fullmatch(host):
        return "a host is named with letters, digits, dots, dashes and underscores"
    if host in lines:
        return f"{host} is already on line {lines[host]}"
    if not (_SLOTS.fullmatch(slots) and 0 < int(slots) <= MOST_SLOTS):
        return f"slots is a number from 1 to {MOST_SLOTS}"
    return f"DeepSpeed would ignore `{match['rest'].strip()}`" if match["rest"].strip() else ""


def _filtered(listed: dict[str, range], settings: Launcher, problems: list[Problem]) -> list[Host]:
    include, exclude = settings.include, settings.exclude
    if include is not None and exclude is not None:
        fix = either("launcher.include=null", "launcher.exclude=null")
        reason = "DeepSpeed takes one of launcher.include and launcher.exclude"
        problems.append(Problem("launcher.exclude", exclude, reason, "one of both", fix))
        return []
    key, text = ("launcher.include", include) if include is not None else ("launcher.exclude", exclude)
    named = _named(key, text, listed, problems) if text is not None else {}
    if include is not None:
        kept = {host: sorted(named[host]) for host in listed if host in named}
    else:
        kept = {host: sorted({*slots} - named.get(host, set())) for host, slots in listed.items()}
    hosts = [Host(name=host, slots=slots) for host, slots in kept.items() if slots]
    if not hosts and not problems:
        problems.append(
            Problem(key, text, "no slot of the hostfile is left", "fewer slots", either(f"{key}=null"))
        )
    return hosts


def _named(key: str, text: str, listed: Mapping[str, range], problems: list[Problem]) -> dict[str, set[int]]:
    """The slots that a filter names: all of a host that it names without any."""
    named: dict[str, set[int]] = {}
    for part in text.split("@"):
        host, colon, slots = part.partition(":")
        if host not in listed:
            problems.append(_unknown_host(key, text, host, listed))
        elif colon and not _SLOT_LIST.fullmatch(slots):
            fix = either(f"{key}=null")
            problems.append(Problem(key, text, f"`{_brief(part)}`: not a list of slots", _GRAMMAR, fix))
        else:
            named.setdefault(host, set()).update(int(slot) for slot in slots.split(",") if slot)
    for host, given in named.items():
        unknown = sorted(given - {*listed[host]})
        if unknown:
            reason = f"{host} has no slot {', '.join(map(str, unknown))}"
            allowed = f"0 to {len(listed[host]) - 1}"
            problems.append(Problem(key, text, reason, allowed, either(f"{key}=null")))
    return {host: given or {*listed[host]} for host, given in named.items()}


def _unknown_host(key: str, text: str, host: str, listed: Mapping[str, range]) -> Problem:
    corrected = [text.replace(host, close) for close in nearest(host, listed)[:1] if host]
    fix = either(*(f"{key}={each}" for each in corrected), f"{key}=null")
    return Problem(key, text, f"`{_brief(host)}` is not in the hostfile", ", ".join(listed), fix)


def _unequal(hosts: list[Host], settings: Launcher) -> Iterator[Problem]:
    """DeepSpeed derives the local rank from the slots of one host (deepspeed/launcher/launch.py)."""
    counts = {host.name: len(host.slots) for host in hosts}
    least = min(counts.values())
    if len(set(counts.values())) == 1:
        return
    chosen = [host.model_copy(update={"slots": host.slots[:least]}) for host in hosts]
    reason = f"DeepSpeed needs as many slots on each host: {', '.join(f'{n} {c}' for n, c in counts.items())}"
    fix = either(f"launcher.include={inclusion(chosen)} launcher.exclude=null")
    yield Problem("launcher.hostfile", settings.hostfile, reason, "the same number of slots", fix)


def _in_file(settings: Launcher, reason: str, allowed: str) -> Problem:
    fix = Fix("correct the file, or launcher.hostfile=null")
    fix.alternatives = ("launcher.hostfile=null",)
    return Problem("launcher.hostfile", settings.hostfile, reason, allowed, fix)


def _brief(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:60]}…"
