"""Metrics that a program writes anyway tell how far it is, whatever has written them."""

import json
import struct
import time

import pytest
from programs import PYTHON
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.summary.writer.event_file_writer import EventFileWriter
from torch.utils.tensorboard import SummaryWriter

from trainers import records
from trainers.command.metrics import Files
from trainers.contract import EXIT_BAD_SPEC, EXIT_DONE


class Looks:
    """Looks at files, each later than the one before."""

    def __init__(self, pattern):
        self.files, self.now_s = Files(str(pattern)), 100.0

    def __call__(self):
        self.now_s += 10
        return [numbers for numbers in self.files.read(self.now_s) if numbers]


def test_rows_are_read_as_they_come(tmp_path):
    """A row that is not ended is not read; of a file that was there, the names alone."""
    old, new = tmp_path / "old.csv", tmp_path / "new.csv"
    old.write_text("epoch,loss\n1,0.5\n")
    look = Looks(tmp_path / "*.csv")
    assert look() == []
    with old.open("a") as file:
        file.write("2,0.4\n3,0")
    assert look() == [{"epoch": 2.0, "loss": 0.4}]
    with old.open("a") as file:
        file.write(".3\n")
    new.write_text('step , "val, acc",note\n7,0.75,fine\n8,,\n')
    assert sorted(look(), key=str) == [
        {"epoch": 3.0, "loss": 0.3},
        {"step": 7.0, "val, acc": 0.75},
        {"step": 8.0},
    ]


def test_a_file_that_is_written_anew_is_read_anew(tmp_path):
    """In place, or by another of the same name; with other columns, too."""
    path = tmp_path / "metrics.csv"
    look = Looks(path)
    path.write_text("step,loss\n1,0.5\n2,0.4\n")
    assert len(look()) == 2
    path.write_text("step,acc\n1,7\n")
    assert look() == [{"step": 1.0, "acc": 7.0}]
    fresh = tmp_path / "fresh"
    fresh.write_text("step,acc,loss\n1,7,1\n2,8,1\n3,9,1\n")
    fresh.replace(path)
    assert [numbers["step"] for numbers in look()] == [1, 2, 3]
    assert look() == []


def test_lines_and_documents_of_json_are_read(tmp_path):
    """A document that is half written is read once it is whole."""
    look = Looks(tmp_path / "*")
    (tmp_path / "a.jsonl").write_text('{"step": 1}\nnonsense\n{"step": 2}\n')
    (tmp_path / "b.json").write_text('{"epoch": 3, "nested": {"x": 1}, "name": "n"}')
    (tmp_path / "c.json").write_text('[{"epoch": 4}, {"epoch": 5')
    assert look() == [{"step": 1.0}, {"step": 2.0}, {"epoch": 3.0}]
    (tmp_path / "c.json").write_text('[{"epoch": 4}, {"epoch": 5}]')
    assert look() == [{"epoch": 5.0}]


def test_tensorboard_is_read_as_torch_and_others_write_it(tmp_path):
    """Numbers, and tensors with one number; pictures and torn records are passed over."""
    look = Looks(tmp_path / "**/events.out.tfevents.*")
    with SummaryWriter(str(tmp_path / "torch")) as writer:
        writer.add_scalar("train/loss", 0.5, 10)
        writer.add_scalar("train/loss", 0.25, 20, new_style=True)
        writer.add_text("note", "fine", 30)
        writer.add_scalar("far", 1.0, 2**40)
    assert look() == [
        {"train/loss": 0.5, "step": 10.0},
        {"train/loss": 0.25, "step": 20.0},
        {"far": 1.0, "step": 2.0**40},
    ]
    other = EventFileWriter(str(tmp_path / "other"))
    for kind, values in ((1, {"float_val": [2.0]}), (2, {"double_val": [3.0]})):
        tensor = TensorProto(dtype=kind, tensor_shape=TensorShapeProto(), **values)
        value = Summary.Value(tag="acc", tensor=tensor)
        other.add_event(Event(step=kind, summary=Summary(value=[value])))
    picture = Summary.Image(encoded_image_string=b"x" * 3_000_000)
    other.add_event(Event(step=3, summary=Summary(value=[Summary.Value(tag="p", image=picture)])))
    other.add_event(
        Event(step=4, summary=Summary(value=[Summary.Value(tag="acc", simple_value=4)]))
    )
    other.close()
    told = look() + look() + look()
    assert told == [
        {"acc": 2.0, "step": 1.0},
        {"acc": 3.0, "step": 2.0},
        {"acc": 4.0, "step": 4.0},
    ]
    (path,) = (tmp_path / "torch").iterdir()
    with path.open("ab") as file:
        whole = records.event(50, 0.0, records.summary(records.point("x", 1.0)))
        file.write(whole[:20])
    assert look() == []
    with path.open("ab") as file:
        file.write(whole[20:] + b"nonsense of a program that has lost its way")
    assert look() == []  # whose file is none of TensorBoard's any more
    assert look() == []


WRITES_CSV = """if True:
    import pathlib, sys, time
    path = pathlib.Path("logs/version_0/metrics.csv")
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = ["epoch,step,val/acc"]
    for epoch in range(1, 6):
        rows.append("%d,%d,0.%d" % (epoch, epoch * 100, epoch))
        path.write_text(chr(10).join(rows) + chr(10))
        time.sleep(0.6)
"""


@pytest.mark.parametrize("size_bytes", [50 * 2**20, 2**64 - 1])
def test_what_is_to_be_passed_over_is_waited_for(tmp_path, size_bytes):
    """Nothing is told twice because the rest of a picture is not written yet, or never will be."""
    look = Looks(tmp_path / "events.out.tfevents.*")
    point = records.event(5, 1.0, records.summary(records.point("loss", 0.5)))
    length = struct.pack("<Q", size_bytes)
    file = tmp_path / "events.out.tfevents.1"
    file.write_bytes(point + length + records._checksum(length) + b"pictures")
    assert look() == ([{"loss": 0.5, "step": 5.0}] if size_bytes < records.RECORD_END else [])
    assert look() == look() == []
    file.write_bytes(point)
    assert len(look()) == (size_bytes < records.RECORD_END)


def test_metrics_tell_the_step_the_score_and_curves(make_run, start):
    """Of a program that writes its whole file anew each time; each row counts once."""
    progress = {"file": "logs/*/metrics.csv", "score": "val/acc"}
    options = {"command": [PYTHON, "-c", WRITES_CSV], "progress": progress}
    target = {"unit": "epochs", "count": 5}
    run = make_run(trainer="command", target=target, options=options)
    life = start(run, "command")
    assert life.end()[0] == EXIT_DONE
    beat = life.heartbeat()
    assert beat["step"] == 5
    assert beat["score"] == {"name": "val_acc", "value": 0.5, "better": "higher"}
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["val/acc"] for line in lines] == sorted({line["val/acc"] for line in lines})


@pytest.mark.parametrize(
    ("progress", "said"),
    [
        ({"file": "metrics.parquet"}, "what it holds is known by its name"),
        ({"file": "{wrok}/a.csv"}, "did you mean {work}?"),
        ({"file": "a.csv", "score": "é" * 70}, "is no name of a number"),
    ],
)
def test_what_cannot_be_read_is_refused(make_run, start, progress, said):
    options = {"command": ["true"], "progress": progress}
    life = start(make_run(trainer="command", target=None, options=options), "command")
    code, *output = life.end()
    assert code == EXIT_BAD_SPEC
    assert said in str(output)


def test_thousands_of_rows_take_a_moment(tmp_path):
    """And are read in pieces, so that none is waited for."""
    path = tmp_path / "m.csv"
    look = Looks(path)
    path.write_text("step,loss\n" + "".join(f"{step},{1 / step}\n" for step in range(1, 50_001)))
    began_s, told = time.process_time(), 0
    while numbers := look():
        told += len(numbers)
    assert told == 50_000
    assert time.process_time() - began_s < 20
