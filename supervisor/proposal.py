"""What settings a folder with a program asks for: facts in, guesses and text out, nothing else.

A script is read and never run: what it imports, which options it has, what it prints and saves.
"""

from __future__ import annotations

import ast
import glob
import json
import re
import shlex
import warnings
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import NamedTuple

from trainers.contract import NAME

USUAL = ("train.py", "main.py", "run.py", "train.sh", "run.sh", "main.sh")
"""names of programs, the likeliest first"""
NEVER = re.compile(r"(setup|conftest|supervised|test_.*|.*_test)\.py")
"""names of scripts that are not what is to be run"""
RESUMES = (
    "--resume_from_checkpoint", "--resume-from-checkpoint", "--resume_from", "--resume-from",
    "--resume", "--ckpt_path", "--ckpt-path", "--ckpt", "--checkpoint",
)  # fmt: skip
"""options that mostly name what is gone on from, the likeliest first"""
OUTPUTS = (
    "--output_dir", "--output-dir", "--out_dir", "--out-dir", "--output", "--out", "--save_dir",
    "--save-dir", "--checkpoint_dir", "--checkpoint-dir", "--ckpt_dir", "--ckpt-dir",
    "--default_root_dir", "--default-root-dir",
)  # fmt: skip
"""options that mostly name the folder for what is saved, likewise"""
COUNTS = {
    "--num_train_epochs": "epochs", "--max_epochs": "epochs", "--max-epochs": "epochs",
    "--num_epochs": "epochs", "--num-epochs": "epochs", "--n_epochs": "epochs",
    "--epochs": "epochs", "--total_timesteps": "steps", "--total-timesteps": "steps",
    "--max_steps": "steps", "--max-steps": "steps", "--num_steps": "steps", "--steps": "steps",
    "--iterations": "iterations",
}  # fmt: skip
"""options that mostly say how far, and what they count"""
STEPS = ("step", "epoch", "iteration", "iter", "round", "episode")
"""words for what a program counts"""
SUFFIXES = (".pt", ".pth", ".ckpt", ".keras", ".h5", ".zip", ".safetensors", ".npz", ".pkl")
"""how names of what is saved mostly end"""
KEPT = (
    "/runs/", "/inbox/", "/answers/", "/lock", "/daemon.json", "/state*.json*", "/told.json",
    "/tuning.json", "/settings.last.json", "/*.jsonl*", "/samples/",
)  # fmt: skip
"""what a supervisor puts into its home, as git ignores it"""

_WORD_BEFORE = re.compile(r"([A-Za-z]+)[\s:=#\[(]*\Z")
_MEASURE_BEFORE = re.compile(
    r"(?a:(\w*(?:loss|error|acc|accuracy|reward|return|score)))\s*[:=]\s*\Z"
)
_SPECIAL = re.compile(r"[.^$*+?{}\[\]\\|()]")


class File(NamedTuple):
    """A file of the folder that may be the program."""

    name: str
    text: str = ""
    """its content, or the beginning of it"""
    executable: bool = False
    changed_at: float = 0.0
    """seconds since 1970"""


class Facts(NamedTuple):
    """What lies in the folder."""

    folder: str
    """its name"""
    files: tuple[File, ...] = ()
    python: str | None = None
    """the interpreter of its virtual environment, below the folder; None: it has none"""
    requirements: bool = False
    """whether it says what is to be installed"""


class Asked(NamedTuple):
    """What a person has said; None: nothing, so it is guessed."""

    name: str | None = None
    command: tuple[str, ...] | None = None
    checkpoints: str | None = None
    """empty: it saves nothing"""
    resume: tuple[str, ...] | None = None
    target: tuple[str, int] | None = None
    """a unit and how many of it"""
    reporting: bool = False
    """whether it is to tell its progress by `supervised`"""


class Proposal(NamedTuple):
    """The settings of one run."""

    name: str
    command: tuple[str, ...]
    resume: tuple[str, ...]
    checkpoints: str
    """empty: unset"""
    target: tuple[str, int] | None
    progress: Mapping[str, str] | None
    """None: unset"""
    finish_s: float | None
    remarks: tuple[str, ...]
    """what a person should look at"""


class Library(NamedTuple):
    """What a program that is made with a library prints and saves, unless told otherwise."""

    imports: tuple[str, ...]
    saves: str
    """below the folder in which it is started"""
    saves_below: str
    """below a folder that it was given"""
    pattern: str | None = None
    """None: nothing that can be relied upon"""
    score: str | None = None
    better: str = "lower"
    finish_s: float | None = None
    """where it prints an epoch as that begins: time for the last one"""


LIBRARIES = (
    Library(
        ("lightning", "pytorch_lightning"),
        "lightning_logs/*/checkpoints/*.ckpt",
        "**/*.ckpt",
        # Where rich is installed, too, its bar prints nothing into a pipe before the end.
    ),
    Library(
        ("transformers",),
        "*/checkpoint-*",
        "checkpoint-*",
        # It logs each 500 steps: until then its bar, or that of an evaluation, shows that it works.
        r"'loss': '?(?P<loss>[-+.\de]+).*'epoch': '?(?P<epoch>[.\d]+)|\| (?P<batch>\d+)/\d+ \[",
        score="loss",
    ),
    Library(
        ("stable_baselines3", "sb3_contrib"),
        "*.zip",
        "**/*.zip",
        r"ep_rew_mean +\| +(?P<reward>[-+.\de]+)|total_timesteps +\| +(?P<step>\d+)",
        score="reward",
        better="higher",
    ),
    Library(
        ("keras", "tensorflow"),
        "*.keras",
        "**/*.keras",
        r"Epoch (?P<epoch>\d+)/|loss: (?P<loss>[-+.\de]+)",
        score="loss",
        finish_s=3600.0,
    ),
)


class Learnt(NamedTuple):
    """What a script says of itself."""

    options: Mapping[str, object]
    """the names of its options that take a value, each with its usual one, or None"""
    flags: frozenset[str]
    """those that take none"""
    library: Library | None
    reports: bool
    """whether it uses `supervised`"""
    saves: str | None
    """a pattern of names that it saves"""
    pattern: str | None
    """what finds numbers in a line that it prints"""


def propose(facts: Facts, asked: Asked) -> Proposal | None:
    """Settings for what is asked, and for what is not the likeliest; None: nothing is likely."""
    script = _named(facts, asked.command) if asked.command else likely(facts)
    if script is None and not asked.command:
        return None
    learnt = learn(script.text if script is not None and script.name.endswith(".py") else "")
    pattern, library = learnt.pattern, learnt.library
    remarks = []
    if pattern is None and library is not None and library.pattern is not None:
        pattern = library.pattern
        remarks.append(
            f"progress looks for what {library.imports[0]} prints unless it is told to be quiet: "
            "where it is, take that line away, or the run counts as hung"
        )
    target = asked.target or _usual_target(learnt, pattern)
    if (
        asked.target is not None
        and not (learnt.reports or asked.reporting or _tells(pattern, asked.target[0]))
        and asked.target[0] not in ("seconds", "episodes")
    ):
        unit = asked.target[0].removesuffix("s")
        pattern = rf"(?i)\b{unit}\D{{0,3}}(?P<{unit}>\d+)"
        remarks.append(
            f"see that it prints lines such as `{unit} 3`, which progress looks for: a run that "
            "tells none counts as hung"
        )
    command = asked.command or _command(facts, script, learnt, target)
    output = any("{work}" in word for word in command)
    checkpoints = asked.checkpoints
    if checkpoints is None:
        checkpoints = _checkpoints(learnt, below=output) or ""
        if not checkpoints:
            remarks.append("say in checkpoints what it saves; until then it goes on by itself")
    resume = asked.resume
    if resume is None:
        resume = _resume(learnt) if checkpoints else ()
        if checkpoints and not resume and not learnt.reports:
            remarks.append(
                "no option to resume with was found: what it has saved is put back in its place, "
                "from where the program has to go on by itself"
            )
    if facts.requirements and facts.python is None and command[0] == "python3":
        remarks.append("requirements.txt names packages: see that python3 has them")
    progress = _progress(pattern, library, reports=learnt.reports or asked.reporting)
    if progress is None:
        remarks.append("say in progress how it tells how far it is; until then seconds count")
    late = library is not None and pattern == library.pattern and target is not None
    return Proposal(
        name=asked.name or _likely_name(facts.folder),
        command=command,
        resume=resume,
        checkpoints=checkpoints,
        target=target,
        progress=progress,
        finish_s=library.finish_s if library is not None and late else None,
        remarks=tuple(remarks),
    )


def likely(facts: Facts) -> File | None:
    """The file that is most likely the program, the newest of several."""

    def rank(file: File) -> tuple[int, float, str]:
        if file.name in USUAL:
            place = USUAL.index(file.name)
        elif file.name.endswith(".py") and "train" in file.name:
            place = len(USUAL)
        elif "__main__" in file.text or not file.name.endswith(".py"):
            place = len(USUAL) + 1
        else:
            place = len(USUAL) + 2
        return place, -file.changed_at, file.name

    programs = [
        file
        for file in facts.files
        if (file.name.endswith((".py", ".sh")) or file.executable)
        and not NEVER.fullmatch(file.name)
    ]
    return min(programs, key=rank, default=None)


def learn(text: str) -> Learnt:
    """What a Python script says of itself; nothing, where it is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            nodes = list(ast.walk(ast.parse(text)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        nodes = []
    imported = set(_imported(nodes))
    options, flags = _options(nodes)
    if "HfArgumentParser" in text:
        options |= {"--output_dir": None, "--resume_from_checkpoint": None}
    known = [one for one in LIBRARIES if imported.intersection(one.imports)]
    return Learnt(
        options=options,
        flags=frozenset(flags),
        library=known[0] if known else None,
        reports="supervised" in imported,
        saves=_saves(nodes),
        pattern=max(filter(None, map(_pattern, _printed(nodes))), key=_worth, default=None),
    )


def written(proposal: Proposal) -> str:
    """The table of the run, with what each key is for; what is not set is there as a comment."""
    target = "# target = { epochs = 50 }"
    if proposal.target is not None:
        target = "target = {{ {} = {} }}".format(*proposal.target)
    checkpoints = '# checkpoints = "ckpt-*.pt"'
    if proposal.checkpoints:
        checkpoints = f"checkpoints = {quoted(proposal.checkpoints)}"
    resume = '# resume = ["--resume", "{checkpoint}"]'
    if proposal.resume:
        resume = f"resume = {_list(proposal.resume)}"
    progress = r"# progress = { pattern = 'epoch (?P<epoch>\d+).*loss (?P<loss>[.\d]+)' }"
    if proposal.progress is not None:
        inner = ", ".join(f"{key} = {quoted(value)}" for key, value in proposal.progress.items())
        progress = f"progress = {{ {inner} }}" if inner else "progress = {}"
    if proposal.finish_s is not None:
        progress += f"""
# It prints an epoch as that begins: how long the last one may take, in seconds.
finish_s = {proposal.finish_s}"""
    return f"""\
[run.{proposal.name}]
trainer = "command"
# How far it is to go; without a target exit code 0 says that it is done.
{target}

[run.{proposal.name}.options]
# The program and its arguments, a word each. {{home}} is this folder, {{work}} the run's own.
command = {_list(proposal.command)}
cwd = "{{home}}"
# What it saves: files or folders, below this one unless the path is a whole one.
{checkpoints}
# What is added to the command where there is one to go on from. Without this it is put back where
# it was saved. $SUPERVISOR_CHECKPOINT names it in any case.
{resume}
# How it tells how far it is: by numbers in what it prints, which the names of groups name, or by
# lines of JSON in $SUPERVISOR_PROGRESS. Without this no hang is noticed.
{progress}
"""


def heading() -> str:
    """What stands above the first run of a settings file."""
    return """\
# Settings of training-supervisor, written by `supervisor init`. A supervisor that runs takes
# changes over. This folder is its home: what each run prints, measures and saves will lie in runs/,
# and beside that are inbox/, answers/, lock, *.jsonl, and some *.json of its own. The first start
# closes the folder to other accounts.

"""


def quoted(text: str) -> str:
    """A string of TOML."""
    if "\\" in text and "'" not in text and text.isprintable():
        return f"'{text}'"  # what is meant for a pattern is read more easily so
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def as_words(text: str) -> tuple[str, ...]:
    """A line as its words.

    Raises:
        ValueError: a quote is not closed.
    """
    return tuple(shlex.split(text))


def as_target(text: str) -> tuple[str, int]:
    """`epochs=50`, or `50 epochs`.

    Raises:
        ValueError: it is neither.
    """
    match = re.fullmatch(r"\s*([A-Za-z]\w*)\s*=\s*([\d_]+)\s*|\s*([\d_]+)\s+([A-Za-z]\w*)\s*", text)
    unit, count = (match[1] or match[4], match[2] or match[3]) if match else ("", "")
    try:
        number = int(count)
    except ValueError:
        number = 0
    if not 0 < number < 2**63 or not NAME.fullmatch(unit):
        raise ValueError("write it as epochs=50")
    return unit, number


def _list(words: tuple[str, ...]) -> str:
    return f"[{', '.join(map(quoted, words))}]"


def _plain(text: str) -> str:
    """A text in which no brace stands for anything."""
    return text.replace("{", "{{").replace("}", "}}")


def _likely_name(folder: str) -> str:
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", folder).strip("-_")[:64]
    return name if NAME.fullmatch(name) else "train"


def _named(facts: Facts, command: tuple[str, ...]) -> File | None:
    """The file of the folder that a command runs."""
    words = {word.removeprefix("{home}/").removeprefix("./") for word in command}
    return next((file for file in facts.files if file.name in words), None)


def _command(
    facts: Facts, script: File | None, learnt: Learnt, target: tuple[str, int] | None
) -> tuple[str, ...]:
    """The words that run a file of the folder."""
    assert script is not None  # noqa: S101 - the caller has seen to it
    path = "{home}/" + _plain(script.name)
    words = [path]
    if script.name.endswith(".py"):
        words = ["{home}/" + facts.python if facts.python else "python3", path]
    elif not script.executable:
        words = ["bash" if "bash" in script.text.partition("\n")[0] else "sh", path]
    output = next((option for option in OUTPUTS if option in learnt.options), None)
    if output is not None:
        words += [output, "{work}"]
    count = next((option for option in COUNTS if option in learnt.options), None)
    if count is not None and target is not None and COUNTS[count] == target[0]:
        words += [count, "{target}"]
    return tuple(words)


def _resume(learnt: Learnt) -> tuple[str, ...]:
    """The words to resume with; none, where it has no option for that."""
    for option in RESUMES:
        if option in learnt.options:
            return option, "{checkpoint}"
        if option in learnt.flags:
            return (option,)
    return ()


def _checkpoints(learnt: Learnt, *, below: bool) -> str | None:
    """The pattern of what it saves, in a folder that it is given or where it stands."""
    saves, library = learnt.saves, learnt.library
    if saves is not None:
        return "{work}/" + saves.removeprefix("*/") if below else saves
    if library is None:
        return None
    return "{work}/" + library.saves_below if below else library.saves


def _usual_target(learnt: Learnt, pattern: str | None) -> tuple[str, int] | None:
    """How far it goes unless told otherwise, where that can be counted."""
    for option, unit in COUNTS.items():
        count = learnt.options.get(option)
        # What counts from zero never says that it has reached the last.
        if type(count) is int and count > 0 and (learnt.reports or _tells(pattern, unit)):
            return unit, count
    return None


def _tells(pattern: str | None, unit: str) -> bool:
    one = unit.removesuffix("s")
    return pattern is not None and (f"(?P<{one}>" in pattern or f"(?P<{one}s>" in pattern)


def _progress(
    pattern: str | None, library: Library | None, *, reports: bool
) -> dict[str, str] | None:
    if pattern is None:
        return {} if reports else None
    if library is not None and pattern == library.pattern:
        score, better = library.score, library.better
    else:
        names = re.findall(r"\(\?P<(\w+)>", pattern)
        lower = next((name for name in names if "loss" in name or "error" in name), None)
        higher = next((name for name in names if re.search("acc|reward|return|score", name)), None)
        score, better = (lower, "lower") if lower else (higher, "higher")
    judged = {"score": score, "better": better} if score else {}
    return {"pattern": pattern, **judged}


def _imported(nodes: list[ast.AST]) -> Iterator[str]:
    """The packages that are imported, by their first names."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (name.name.partition(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def _options(nodes: list[ast.AST]) -> tuple[dict[str, object], set[str]]:
    """The options that its command line takes: those with a value, and those without."""
    options: dict[str, object] = {}
    flags: set[str] = set()
    for call in nodes:
        if not isinstance(call, ast.Call) or _called(call) not in ("add_argument", "option"):
            continue
        names = [word for word in map(_constant, call.args) if isinstance(word, str)]
        given = {each.arg: each.value for each in call.keywords}
        action = given.get("action")
        valueless = (
            str(_constant(action)).startswith("store_") and _constant(action) != "store"
        ) or "BooleanOptionalAction" in (ast.dump(action) if action else "")
        valueless |= _constant(given.get("is_flag")) is True
        for name in names:
            if name.startswith("--") and valueless:
                flags.add(name)
            elif name.startswith("--"):
                options[name] = _constant(given.get("default"))
    return options, flags


def _saves(nodes: list[ast.AST]) -> str | None:
    """A pattern of names that it saves: first what stands in a call that says so."""
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    within = [call for call in calls if re.search("save|dump", _called(call))]
    parts = set[int]()
    for call in within:
        for node in ast.walk(call):
            if isinstance(node, ast.JoinedStr):
                parts |= set(map(id, node.values))
            found = _saved_name(node, constants=id(node) not in parts)
            if found is not None:
                return found
    return next(filter(None, (_saved_name(node, constants=False) for node in nodes)), None)


def _saved_name(node: ast.AST, *, constants: bool) -> str | None:
    """The pattern of names that a string is, if that looks like the name of something saved."""
    parts: list[ast.expr] = []
    if isinstance(node, ast.JoinedStr):
        parts = node.values
    elif constants and isinstance(node, ast.Constant) and isinstance(node.value, str):
        parts = [node]
    texts = [_constant(part) for part in parts]
    found = "".join(glob.escape(_plain(text)) if isinstance(text, str) else "*" for text in texts)
    name = PurePath(re.sub(r"\*+", "*", found)).name
    plain = name.strip("*")
    looks = name.endswith(SUFFIXES) or (
        not constants and re.match("ckpt|checkpoint", plain) is not None
    )
    if not looks or not plain.strip(".") or not name.isprintable() or re.search(r"\s", name):
        return None
    return re.sub(r"\*+", "*", found) if "\n" not in found and " " not in found else name


def _printed(nodes: list[ast.AST]) -> Iterator[ast.JoinedStr]:
    """The strings with values in them that it prints."""
    for call in nodes:
        if isinstance(call, ast.Call) and _called(call) in ("print", "info", "write", "echo"):
            yield from (part for part in call.args if isinstance(part, ast.JoinedStr))


def _pattern(string: ast.JoinedStr) -> str | None:
    """What finds the numbers of such a string; None: it does not count."""
    found, names, before = "", set[str](), ""
    for part in string.values:
        text = _constant(part)
        if isinstance(text, str):
            found += _SPECIAL.sub(r"\\\g<0>", re.sub(r"\s+", " ", text))
            before = text
            continue
        assert isinstance(part, ast.FormattedValue)  # noqa: S101 - a string has no other parts
        word = _WORD_BEFORE.search(before)
        name = word[1].lower() if word and word[1].lower() in STEPS else _identifier(part.value)
        if name is None and (measure := _MEASURE_BEFORE.search(before)):
            name = measure[1]
        one = (name or "").removesuffix("s")
        if name is None or name in names or (one in STEPS and one != name):
            found += ".*?"
        else:
            names.add(name)
            found += rf" *(?P<{name}>{chr(92)}d+)" if name in STEPS else rf" *(?P<{name}>[-+.\de]+)"
        before = ""
    found = found.replace("  *", " *").strip()
    while found.endswith(".*?"):
        found = found.removesuffix(".*?").rstrip(" /")
    return found if names.intersection(STEPS) and found.isprintable() else None


def _worth(pattern: str) -> tuple[int, bool]:
    """The more numbers the better; what it says at its start it says once."""
    return pattern.count("(?P<"), not re.search("(?i)resum|load|restor|start", pattern)


def _identifier(node: ast.expr) -> str | None:
    """What a value is called."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and not node.args:
        node = node.func.value  # loss.item()
    name = {ast.Name: "id", ast.Attribute: "attr"}.get(type(node))
    found = getattr(node, name) if name else None
    return found if isinstance(found, str) and found.isascii() else None


def _called(call: ast.Call) -> str:
    """The last name of what is called."""
    if isinstance(call.func, ast.Attribute):
        return call.func.attr
    return call.func.id if isinstance(call.func, ast.Name) else ""


def _constant(node: ast.AST | None) -> object:
    return node.value if isinstance(node, ast.Constant) else None
