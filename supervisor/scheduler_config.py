"""A `scheduler_config.yaml`, and what each of its keys becomes here: text in, text out.

Nothing of it is repeated in a refusal, since any word there may be a password in the wrong place.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple
from urllib.parse import quote

from supervisor.core.guard import Guard, patience_s
from supervisor.errors import SupervisorError
from supervisor.proposal import quoted
from supervisor.usage.passwords import MAX_BYTES as PASSWORD_MAX_BYTES
from trainers.contract import NAME

READ_MAX_BYTES = 2**16
DEPTH_MAX = 8
TOLD_MAX = 20
"""mistakes that are told at once"""
NUMBER_MAX = 2**63
"""no setting comes near it, and TOML has none beyond"""
PROGRAM = (
    "python3", "{home}/train_all_models.py", "--archetypes", "{name}", "--epochs", "{target}",
    "--batch-size", "{options.batch_size}", "--learning-rate", "{options.learning_rate}",
)  # fmt: skip
"""what trains there; a pair of words whose key is not set is left out"""
PLACEHOLDER = re.compile(r"(?i)your[_ -]?\w*?password(_?here)?|change[_-]?me|<.*>")
EXPONENT = re.compile(r"[+-]?\d+[eE][+-]?\d+")
"""a number to whoever writes it, and text to YAML, which wants a point"""
HOST = re.compile(r"[A-Za-z0-9._-]{1,253}|\[?[0-9A-Fa-f:.]{2,45}\]?")
USER = re.compile(r"[^\s:/@?#]{1,128}")
DATABASE = re.compile(r"[\w.$-]{1,64}")
PORTS = {"mariadb": 3306, "postgres": 5432}
SCHEMES = {"mariadb": "mariadb", "postgres": "postgresql"}
KINDS = {"mariadb": "loginlog", "postgres": "health"}
NEEDLESS = {
    "paths": "not needed: everything lies in the home, in places of its own",
    "logging": "not needed: `supervisor decisions` and `supervisor logs` show what is kept anyway",
}
"""sections of which any key is known, and none is brought over"""

Kind = Literal["text", "secret", "whole", "number", "flag", "names"]
WANTED: Mapping[Kind, str] = {
    "text": "is to be text: put it in quotes",
    "secret": "is to be text: put it in quotes",
    "whole": "is to be a whole number",
    "number": "is to be a number",
    "flag": "is to be true or false",
    "names": "is to be names with blanks between them, each of letters, digits, '-' and '_'",
}


class Key(NamedTuple):
    """A key of the document."""

    kind: Kind
    place: str
    """where its value stands here; empty: nowhere"""


def _of_database(which: str) -> dict[str, Key]:
    source = f"quiet_hours.sources.{which}"
    kinds: dict[str, Kind] = {"host": "text", "port": "whole", "database": "text", "user": "text"}
    return {
        **{f"database.{which}_{key}": Key(kind, f"{source}.url") for key, kind in kinds.items()},
        f"database.{which}_password": Key("secret", f"{source}.password_file"),
    }


KEYS: Mapping[str, Key] = {
    **_of_database("mariadb"),
    **_of_database("postgres"),
    "training.archetypes": Key("names", "campaign.runs"),
    "training.epochs": Key("whole", "campaign.target"),
    "training.batch_size": Key("whole", "campaign.options.options.batch_size"),
    "training.learning_rate": Key("number", "campaign.options.options.learning_rate"),
    "training.max_cpu_before_training": Key("number", "guard.start_cpu_percent"),
    "training.max_memory_before_training": Key("number", "guard.start_memory_percent"),
    "training.max_gpu_memory_before_training": Key("number", "guard.start_gpu_memory_mib"),
    "training.pause_threshold_cpu": Key("number", "guard.pause_cpu_percent"),
    "training.pause_threshold_memory": Key("number", "guard.pause_memory_percent"),
    "training.monitor_interval_seconds": Key("number", "guard.sample_s"),
    "training.auto_deploy": Key("flag", ""),
    "training.rollback_on_failure": Key("flag", ""),
    "scheduling.window_hours": Key("whole", "quiet_hours.window_hours"),
    "scheduling.top_n_windows": Key("whole", "quiet_hours.top_n_windows"),
    "scheduling.preferred_day": Key("whole", "quiet_hours.preferred_day"),
    "scheduling.preferred_start_hour": Key("whole", "quiet_hours.preferred_start_hour"),
    "scheduling.force_training": Key("flag", ""),
    "analysis.history_days": Key("whole", "quiet_hours.history_days"),
    "analysis.min_data_points": Key("whole", "quiet_hours.min_data_points"),
    "analysis.weight_players": Key("number", "quiet_hours.weight_players"),
    "analysis.weight_cpu": Key("number", "quiet_hours.weight_cpu"),
    "analysis.weight_memory": Key("number", "quiet_hours.weight_memory"),
    "analysis.weight_monsters": Key("number", "quiet_hours.weight_monsters"),
}
"""every key of the document"""
SECTIONS = (*dict.fromkeys(key.partition(".")[0] for key in KEYS), *NEEDLESS)
LATER = ("training.auto_deploy", "training.rollback_on_failure")
"""keys that a later version of ours will understand"""


class BadDocument(SupervisorError):
    """The document cannot be brought over as it is."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        self.problems = problems
        """one line each, without a value of the document"""
        super().__init__("\n".join((*problems, "nothing was written")))


class NoYaml(SupervisorError):
    """What reads YAML is not installed."""

    def __init__(self) -> None:
        super().__init__("PyYAML is missing: pip install 'training-supervisor[usage]'")


class Brought(NamedTuple):
    """What the document becomes."""

    tables: Mapping[str, str]
    """text of TOML, by the name of the table at the top"""
    wanted_by: Mapping[str, tuple[str, ...]]
    """the keys of the document that make each of these tables"""
    comments: str
    passwords: Mapping[str, str]
    """what is to stand in which file"""
    told: tuple[str, ...]
    """what became of each key, a line each, in the order of the document"""


def parsed(raw: bytes) -> dict[Any, Any]:
    """The document as plain values.

    Raises:
        BadDocument: it is no YAML, or more than plain values.
        NoYaml: nothing here reads it.
    """
    try:
        import yaml  # noqa: PLC0415 - an extra, and only for this
    except ImportError:
        raise NoYaml from None
    try:
        text = raw.decode("utf-8-sig")
        _refuse_clever(yaml.parse(text, yaml.SafeLoader))
        tree = yaml.compose(text, yaml.SafeLoader)
        _refuse_twice(tree)
        content = yaml.safe_load(text)
    except UnicodeDecodeError:
        raise BadDocument(("it is no text in UTF-8",)) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = "" if mark is None else f" in line {mark.line + 1}"
        # The library's own words repeat what stands there.
        why = "text with special characters belongs in quotes"
        raise BadDocument((f"it is no valid YAML{where}: {why}",)) from None
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError):
        raise BadDocument(("it is no valid YAML: a character or a number is none",)) from None
    if not isinstance(content, dict):
        raise BadDocument((f"it has none of the sections {', '.join(SECTIONS)}",))
    return content


def _refuse_clever(events: Iterator[Any]) -> None:
    """Refuse what makes more of a document than what stands in it."""
    depth = 0
    for event in events:
        kind, line = type(event).__name__, event.start_mark.line + 1
        if getattr(event, "anchor", None) is not None:
            why = "& and * at the begin of a value name another; text belongs in quotes"
            raise BadDocument((f"line {line}: {why}",))
        if isinstance(getattr(event, "tag", None), str):
            raise BadDocument((f"line {line}: ! at the begin is a tag; text belongs in quotes",))
        depth += kind.endswith("StartEvent") - kind.endswith("EndEvent")
        # The stream and the document are two.
        if depth > DEPTH_MAX + 2:
            raise BadDocument((f"line {line}: more than {DEPTH_MAX} levels, and settings have 2",))


def _refuse_twice(node: Any) -> None:
    """Refuse a key that stands twice beside itself: one of the two would be lost."""
    parts = [] if node is None or isinstance(node.value, str) else node.value
    seen = set[str]()
    for part in parts:
        if not isinstance(part, tuple):
            _refuse_twice(part)
            continue
        key, value = part
        line = key.start_mark.line + 1
        if key.tag.endswith(":merge"):
            raise BadDocument((f"line {line}: << is no key",))
        if isinstance(key.value, str):
            if key.value in seen:
                raise BadDocument((f"line {line}: {_shown(key.value)} is there twice",))
            seen.add(key.value)
        _refuse_twice(value)


def brought(
    document: Mapping[Any, Any], program: tuple[str, ...] | None, *, skip_unknown: bool
) -> Brought:
    """What a document becomes.

    Args:
        document: as `parsed` has it.
        program: what trains, where somebody says so; None: the program of the document.
        skip_unknown: whether keys that nobody knows are no mistake.

    Raises:
        BadDocument: a key is unknown, or its value cannot be used.
    """
    values, needless, unknown = _sorted(document)
    problems = [] if skip_unknown else [*map(_unknown, unknown[:TOLD_MAX])]
    if not skip_unknown and len(unknown) > TOLD_MAX:
        problems.append(f"there are {len(unknown) - TOLD_MAX} more keys that nobody knows")
    for key, value in values.items():
        wrong = None if value is None else _wrong(KEYS[key].kind, value)
        if wrong is not None:
            problems.append(f"{key} {wrong}")
    if problems:
        raise BadDocument(tuple(problems))
    for key, value in values.items():
        if KEYS[key].kind == "number" and isinstance(value, str):
            values[key] = float(value)
    needless |= dict.fromkeys(unknown, "not brought over: there is no such key")
    return _written(values, needless, [key for key, _ in _flat(document)], program)


def _sorted(document: Mapping[Any, Any]) -> tuple[dict[str, Any], dict[str, str], list[str]]:
    """The values of known keys; what is told of needless ones; all others."""
    values: dict[str, Any] = {}
    needless: dict[str, str] = {}
    unknown: list[str] = []
    for key, value in _flat(document):
        section = key.partition(".")[0]
        if section in NEEDLESS:
            needless[key] = NEEDLESS[section]
        elif key in KEYS:
            values[key] = value
        elif key in SECTIONS and value is None:
            needless[key] = "not needed: nothing stands there"
        else:
            unknown.append(key)
    return values, needless, unknown


def _flat(document: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    """Each key with its section, in the order of the document."""
    for section, content in document.items():
        if isinstance(content, dict) and content:
            yield from ((f"{section}.{key}", value) for key, value in content.items())
        else:
            yield str(section), None if content == {} else content


def _unknown(key: str) -> str:
    if key in SECTIONS:
        return f"{key} is to have keys of its own"
    close = difflib.get_close_matches(key, KEYS, n=1)
    hint = f"did you mean {close[0]}?" if close else "mend it, or say --skip-unknown"
    return f"there is no key {_shown(key)}; {hint}"


def _shown(key: str) -> str:
    """A key as far as it looks like one: what follows may be a value that lost its blank."""
    found = re.match(r"[A-Za-z0-9_.-]{0,80}", key)
    plain = found[0] if found else ""
    return plain if plain == key else f"{plain}..."


def _wrong(kind: Kind, value: object) -> str | None:
    """What is wrong with a value, without the value; None: nothing."""
    match kind:
        case "whole":
            good = type(value) is int and abs(value) < NUMBER_MAX
        case "number":
            good = _is_number(value)
        case "flag":
            good = isinstance(value, bool)
        case "text":
            good = isinstance(value, str) and value.isprintable()
        case "secret":
            return _wrong_password(value)
        case "names":
            found = _names(value)
            good = found is not None and all(NAME.fullmatch(name) for name in found)
    return None if good else WANTED[kind]


def _is_number(value: object) -> bool:
    if isinstance(value, str) and EXPONENT.fullmatch(value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < NUMBER_MAX and math.isfinite(value)


def _wrong_password(value: object) -> str | None:
    if not isinstance(value, str):
        return WANTED["secret"]
    if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
        return "holds what is no text"
    if len(value.encode()) > PASSWORD_MAX_BYTES:
        return f"is longer than {PASSWORD_MAX_BYTES} bytes"
    return "ends with a line break" if value.endswith(("\n", "\r")) else None


def _names(value: object) -> list[str] | None:
    """The names in a text or a list; None: it is neither."""
    if isinstance(value, str):
        return re.split(r"[\s,]+", value.strip(", \t\n")) if value.strip(", \t\n") else []
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return value
    return None


def _written(
    values: Mapping[str, Any],
    needless: Mapping[str, str],
    order: list[str],
    program: tuple[str, ...] | None,
) -> Brought:
    """All of it as text, and what is told of each key."""
    given = {key: value for key, value in values.items() if value is not None}
    became = {key: "not needed: nothing is set there" for key in values if key not in given}
    became |= needless
    wanted_by: dict[str, list[str]] = {}
    for key in given:
        table = KEYS[key].place.partition(".")[0]
        if table:
            wanted_by.setdefault(table, []).append(key)
    sources, passwords, of_databases = _sources(given)
    if not sources and all(key.startswith("database.") for key in wanted_by.get("quiet_hours", ())):
        wanted_by.pop("quiet_hours", None)
    became |= of_databases
    tables = {}
    if "guard" in wanted_by:
        tables["guard"] = _table("guard", given, became)
    if "quiet_hours" in wanted_by:
        tables["quiet_hours"] = _table("quiet_hours", given, became) + sources
    if "campaign" in wanted_by:
        tables["campaign"] = _campaign(given, became, program)
    return Brought(
        tables=tables,
        wanted_by={table: tuple(keys) for table, keys in wanted_by.items()},
        comments=_later(given, became),
        passwords=passwords,
        told=tuple(_line(key, values, became) for key in map(str, order)),
    )


def _line(key: str, values: Mapping[str, Any], became: Mapping[str, str]) -> str:
    """What became of one key."""
    if key not in values:
        return f"{_shown(key)} -> {became[key]}"
    value = values[key]
    if KEYS[key].kind == "secret" or value is None:
        return f"{key} -> {became[key]}"
    return f"{key} = {_toml(value)} -> {became[key]}"


def _table(name: str, given: Mapping[str, Any], became: dict[str, str]) -> str:
    """A table of which each key is one of the document."""
    lines = [f"[{name}]"]
    for key, known in KEYS.items():
        table, _, short = known.place.rpartition(".")
        if key in given and table == name:
            lines.append(f"{short} = {_toml(given[key])}")
            became[key] = f"{known.place} = {_toml(given[key])}"
            if short == "sample_s":
                patience = f"{Guard().pause_samples} of them in a row make training pause, within "
                patience += f"{patience_s(Guard(sample_s=given[key])):g} s"
                became[key] += f": {patience}"
    return "\n".join(lines) + "\n"


def _sources(given: Mapping[str, Any]) -> tuple[str, dict[str, str], dict[str, str]]:
    """The tables of the databases, the files of their passwords, what became of each key.

    Raises:
        BadDocument: an address makes no sense.
    """
    text, problems = "", list[str]()
    passwords, became = dict[str, str](), dict[str, str]()
    for which in PORTS:
        own = {
            key.partition("_")[2]: value
            for key, value in given.items()
            if key.startswith(f"database.{which}_")
        }
        if not own.get("host"):
            why = f"not needed: no database.{which}_host is set"
            became |= {f"database.{which}_{key}": why for key in own}
            continue
        problems += [f"database.{which}_{misfit}" for misfit in _misfits(own)]
        name = f"quiet_hours.sources.{which}"
        url = _address(which, own)
        file, told = _password(which, own.get("password"))
        password_file = f"password_file = {quoted(file)}\n" if file else ""
        text += f"\n[{name}]\nkind = {quoted(KINDS[which])}\nurl = {quoted(url)}\n{password_file}"
        became |= {f"database.{which}_{key}": f"{name}.url = {quoted(url)}" for key in own}
        if "password" in own:
            became[f"database.{which}_password"] = told
        if file and not PLACEHOLDER.fullmatch(own["password"]):
            passwords[file] = own["password"]
    if problems:
        raise BadDocument(tuple(problems))
    return text, passwords, became


def _misfits(own: Mapping[str, Any]) -> Iterator[str]:
    """The keys of a database that can stand in no address, and why."""
    if not HOST.fullmatch(own["host"]):
        yield "host is no name or address of a machine"
    if not 0 < own.get("port", 1) < 2**16:
        yield "port is to be from 1 to 65535"
    if not own.get("database"):
        yield "database is missing"
    elif not DATABASE.fullmatch(own["database"]):
        yield "database is no name of one"
    if own.get("user") and not USER.fullmatch(own["user"]):
        yield "user is no name of an account"


def _address(which: str, own: Mapping[str, Any]) -> str:
    host = own["host"]
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    who = f"{quote(own['user'], safe='')}@" if own.get("user") else ""
    port, database = own.get("port", PORTS[which]), own.get("database", "")
    return f"{SCHEMES[which]}://{who}{host}:{port}/{database}"


def _password(which: str, password: str | None) -> tuple[str, str]:
    """The file that holds a password, empty where there is none; what is told of it."""
    file = f"{which}-password"
    if not password:
        return "", "empty, so none is sent: where the database wants one, set password_file"
    if PLACEHOLDER.fullmatch(password):
        return file, f"a placeholder: write the password into {file} in the home, and chmod 600 it"
    return file, f"{file} in the home, which only its owner reads"


def _campaign(
    given: Mapping[str, Any], became: dict[str, str], program: tuple[str, ...] | None
) -> str:
    """What is trained, how far, by which program."""
    given_names = _names(given.get("training.archetypes", "")) or []
    names = [name for name in given_names if name != "all"]
    runs = f"runs = [{', '.join(map(quoted, names))}]"
    lines = ["[campaign]"]
    if not names:
        lines.append('# Name what is to be trained: runs = ["aggressive", "defensive"]')
    lines += [runs, 'trainer = "command"']
    became["training.archetypes"] = f"campaign.{runs}" + (
        ""
        if names and "all" not in given_names
        else ': "all" needs names here, one run for each: write them into that list'
    )
    if "training.epochs" in given:
        target = f"target = {{ epochs = {given['training.epochs']} }}"
        lines.append(target)
        became["training.epochs"] = f"campaign.{target}"
    options = {
        key.partition(".")[2]: given[key]
        for key, known in KEYS.items()
        if known.place.startswith("campaign.options.") and key in given
    }
    words = _words({*options, *(("epochs",) if "training.epochs" in given else ())})
    lines += [
        "",
        "[campaign.options]",
        "# The program and its arguments, a word each; {home} is the folder of these settings.",
        f"command = [{', '.join(map(quoted, program or words))}]",
        "# It tells its epochs by lines of JSON in $SUPERVISOR_PROGRESS, as supervised.py does.",
        "progress = {}",
    ]
    if options:
        lines += ["", "[campaign.options.options]"]
    for key, value in options.items():
        lines.append(f"{key} = {_toml(value)}")
        became[f"training.{key}"] = f"campaign.options.options.{key} = {_toml(value)}"
    return "\n".join(lines) + "\n"


def _words(given: set[str]) -> tuple[str, ...]:
    """The words of the program, without those whose key is not set."""
    words = list(PROGRAM[:4])
    for option, value in zip(PROGRAM[4::2], PROGRAM[5::2], strict=True):
        if option.removeprefix("--").replace("-", "_") in given:
            words += [option, value]
    return tuple(words)


def _later(given: Mapping[str, Any], became: dict[str, str]) -> str:
    """Comments for what a later version understands; what is told of that, and of what never is."""
    lines = ""
    for key in LATER:
        if key in given:
            lines += (
                f"# {key} = {_toml(given[key])}: for a version that releases what was trained\n"
            )
            became[key] = "a comment, for a version that releases what was trained"
    forced = given.get("scheduling.force_training")
    if forced is not None:
        became["scheduling.force_training"] = (
            "not brought over: no setting is to forget the windows; for one night say "
            "`supervisor train-now --for 8h`"
            if forced
            else "not needed: windows count unless somebody says `supervisor train-now`"
        )
    return lines


def _toml(value: object) -> str:
    """A value as TOML has it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return repr(value)
