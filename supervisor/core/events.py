"""Every event of the decision log, with what it means."""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class Event(StrEnum):
    """What a line of the decision log tells, as `noun.happened`; `meaning` is for people."""

    meaning: str

    def __new__(cls, name: str, meaning: str) -> Self:
        """The event of that name."""
        event = str.__new__(cls, name)
        event._value_ = name
        event.meaning = meaning
        return event

    BOOT_RECORDED = (
        "boot.recorded",
        "a boot of the machine was counted, after a crash or as planned",
    )
    BOOT_UNREADABLE = "boot.unreadable", "what earlier boots noted of themselves cannot be read"
    CAMPAIGN_DONE = "campaign.done", "every run has ended; it rests"
    CLIMB_VETOED = "climb.vetoed", "a GPU is under pressure, so a climb that was due waits"
    CRASH_PRICED = "crash.priced", "trainers step again after a crash: what it has cost"
    DISK_EASED = "disk.eased", "there is room on the disk again"
    DISK_FAILED = "disk.failed", "a log cannot be written; on the screen only"
    DISK_LOW = "disk.low", "the disk of the home is nearly full"
    DISK_RECOVERED = "disk.recovered", "it can be written again; on the screen only"
    GENERATION_BEGUN = (
        "generation.begun",
        "the campaign was [due again](#due-again): all of it is in the queue, as runs of their own",
    )
    GENERATION_DROPPED = (
        "generation.dropped",
        "an earlier generation is one too many: the folders of its runs are removed",
    )
    GENERATION_LATE = (
        "generation.late",
        "the next generation is due, and the present one is not done: it is finished first",
    )
    GENERATION_REMOVED = "generation.removed", "they are"
    GENERATION_SCHEDULED = (
        "generation.scheduled",
        "when the campaign is due again, by settings that are new; or that it is not",
    )
    GENERATION_STUCK = (
        "generation.stuck",
        "the folder of a run cannot be removed; it is tried again at every look",
    )
    GOAL_CHANGED = "goal.changed", "the goal is another, in the same mode"
    GPU_AWAITED = (
        "gpu.awaited",
        "a GPU holds the memory of a trainer that is dead; nothing starts for a while",
    )
    GPU_LEAKED = "gpu.leaked", "it did not free that memory in time; runs start all the same"
    GUARD_BLIND = "guard.blind", "something that [guard] is to look at cannot be looked at"
    GUARD_EVICTED = (
        "guard.evicted",
        "others need the machine, so that what trained here saves and leaves",
    )
    HOME_CLOSED = (
        "home.closed",
        "other accounts could look into the home or write to it; they can no more",
    )
    HOME_RENEWED = "home.renewed", "the home lies somewhere else than before: it has a new id"
    JOBS_EASED = "jobs.eased", "jobs wait no longer than they should"
    JOBS_LATE = "jobs.late", "a job has waited for longer than `max_wait_h`, and no home takes it"
    LEDGER_BEGUN = "ledger.begun", "the ledger of another version was given up for a fresh one"
    MACHINE_CHANGED = (
        "machine.changed",
        "the machine is another: what failed before is tried afresh",
    )
    MODE_CHANGED = "mode.changed", "the goal is another mode"
    MODE_PROVED = "mode.proved", "the mode has lasted: one failure of it is forgiven"
    NOTIFY_ENDED = "notify.ended", "it has ended well; or the supervisor was stopped while it ran"
    NOTIFY_FAILED = (
        "notify.failed",
        "it has not ended well, or, with rule `urls`, an address could not be told something",
    )
    NOTIFY_STARTED = (
        "notify.started",
        "the command for the [end of the campaign](#the-end-of-a-campaign) begins",
    )
    POWER_LIMITED = "power.limited", "the power limit of every GPU was set"
    POWER_REFUSED = (
        "power.refused",
        "it could not be set everywhere; it is tried again at every look",
    )
    REQUEST_GRANTED = (
        "request.granted",
        "a request that changed neither mode nor goal, such as a reset in the lowest mode",
    )
    REQUEST_REFUSED = "request.refused", "a request was not granted; the reason says why"
    REQUEST_UNREADABLE = (
        "request.unreadable",
        "a file in the inbox was no request; it was moved aside",
    )
    RUN_ADOPTED = "run.adopted", "a living trainer was taken over"
    RUN_BLOCKED = "run.blocked", "processes cannot be ended"
    RUN_CANCELLED = "run.cancelled", "a run was ended as whoever had submitted it asked"
    RUN_CHANGED = (
        "run.changed",
        "something else is asked of a run: what, and what follows from that",
    )
    RUN_CLEARED = "run.cleared", "they have ended at last"
    RUN_DIED = "run.died", "a trainer ended otherwise than it should; it starts again"
    RUN_DONE = "run.done", "a run reached its target"
    RUN_FAILED = "run.failed", "a run can never work as it is set"
    RUN_HUNG = "run.hung", "a trainer lived without moving; its stacks are in its output"
    RUN_KILLED = (
        "run.killed",
        "processes were killed: after the grace, or left behind, or of no queue",
    )
    RUN_LOST = "run.lost", "the machine went down while a trainer lived"
    RUN_NOTICED = (
        "run.noticed",
        "a trainer says something that a person should hear, such as a loss that is not a number",
    )
    RUN_QUARANTINED = "run.quarantined", "a run died at the same step again and again"
    RUN_RETRIED = "run.retried", "a run in quarantine is tried once more"
    RUN_STARTED = "run.started", "a trainer was started, in which mode and from which step"
    RUN_STOPPED = (
        "run.stopped",
        "a trainer left, as it was asked to: to make room, for a pause, at the end",
    )
    SAMPLES_STOPPED = (
        "samples.stopped",
        "the [samples](#samples) of the machine cannot be written; training goes on",
    )
    SETTINGS_CHANGED = "settings.changed", "new settings are in force"
    SETTINGS_DATED = (
        "settings.dated",
        "the settings have a key in an old form, which is read all the same",
    )
    SETTINGS_REFUSED = "settings.refused", "a change is wrong; the last good settings stay"
    SETTINGS_UNKEPT = (
        "settings.unkept",
        "the settings in force are not kept over a reboot, since a newer version's are",
    )
    SLOTS_ASSIGNED = (
        "slots.assigned",
        "other runs than before are demanded to train now; none while paused, stopped, or at rest",
    )
    STATE_DAMAGED = "state.damaged", "the state file was not what was written"
    STATE_LAGGED = (
        "state.lagged",
        "the state is older than the log, because it could not be saved or was removed",
    )
    STATE_SAVED = "state.saved", "the state can be saved again"
    STATE_UNSAVED = "state.unsaved", "the state cannot be saved; it goes on in memory"
    SUPERVISOR_STARTED = "supervisor.started", "the supervisor goes on"
    SUPERVISOR_STOPPED = "supervisor.stopped", "all is saved and nothing lives"
    SUPERVISOR_STOPPING = "supervisor.stopping", "it was asked to stop, and saves every run"
    USAGE_ANALYSED = "usage.analysed", "the quiet hours of the week have been learnt anew"
    USAGE_LATE = (
        "usage.late",
        "no analysis has succeeded for a day longer than one is to stand; soon there is no window",
    )
    USAGE_UNKNOWN = (
        "usage.unknown",
        "they could not be learnt; the windows from before stay, and it is tried again each hour",
    )
    WARM_LOST = (
        "warm.lost",
        "the process that trainers are forked from ended, or was ended; they start cold",
    )
    WATCH_LOST = (
        "watch.lost",
        "requests and changed settings are seen at the next regular look only",
    )


ERRANDS = (Event.NOTIFY_ENDED, Event.NOTIFY_FAILED, Event.NOTIFY_STARTED)
"""what is told of errands: nobody can ask to be told of these elsewhere"""
ON_SCREEN = (Event.DISK_FAILED, Event.DISK_RECOVERED)
"""what is told on the screen alone, since no log can be written"""
LOGGED = tuple(str(event) for event in Event if event not in ON_SCREEN)
"""what the decision log can hold"""
TOLD_ELSEWHERE = tuple(event for event in LOGGED if event not in ERRANDS)
"""of which somebody can ask to be told"""
