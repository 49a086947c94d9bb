"""Log lines per second that are masked and assigned to patterns on one core, with Drain3 on the same lines."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Final

from reasoner.errors import WrongUse
from reasoner.evaluate.loghub import drain3_miner, systems_in
from reasoner.evaluate.result import Result
from reasoner.recordings.read import BadLines, read
from state_schemas.contracts.dead_letter import Rejected
from udfs.logs.reader import LineReader
from udfs.otlp.decoder import decode_logs

BATCH: Final = 1_000  # lines of a message
BODIES_MAX: Final = 100_000
PEER_MAX: Final = 20_000  # lines given to Drain3, which is slower
TEMPLATES: Final = 2_000
TENTHS: Final = 10

Report = Callable[[str], None]


def bench_templates(loghub: Path, recorded: Path, long_lines: int, report: Report) -> Result:
    """Measure for minutes. loghub, recorded: folders of the Loghub samples and of a recording with logs."""
    contents = [line for system in systems_in(loghub) for line in system.lines]
    samples = {"loghub": contents, "bodies": _bodies(recorded)}
    scores: dict[str, float] = {}
    for name, lines in samples.items():
        report(f"{name}: {len(lines)} lines of {sum(map(len, lines)) / len(lines):.0f} characters")
        ours, peer = len(lines) / _timed(LineReader(), lines), _drain3_lines_per_s(lines[:PEER_MAX])
        suffix = "" if name == "bodies" else f"_{name}"
        scores |= {f"lines_per_s{suffix}": round(ours), f"lines_per_s_drain3{suffix}": round(peer)}
        scores[f"times_drain3{suffix}"] = round(ours / peer, 1)
    report(f"{long_lines} lines of {TEMPLATES} templates")
    tenths = _tenths(long_lines)
    scores["lines_per_s_long"] = round(long_lines / sum(tenths))
    scores["last_tenth_slower"] = round(tenths[-1] / tenths[0] - 1, 3)
    detail = [{"tenth": number + 1, "lines_per_s": round(long_lines / TENTHS / s)} for number, s in enumerate(tenths)]
    return Result("bench templates", f"one core, batches of {BATCH}", scores, detail)


def _bodies(folder: Path) -> list[str]:
    """Return lines of the recording's logs, BODIES_MAX at most."""
    found: list[str] = []
    for message in read([folder], BadLines()):
        if message.topic_kind == "logs":
            logs = decode_logs(message.value)
            assert not isinstance(logs, Rejected), "a recorded message cannot be decoded"
            found += [record.body for record in logs.records]
        if len(found) >= BODIES_MAX:
            break
    if not found:
        text = f"{folder} holds no log lines; expected what the Collector's file exporter writes"
        raise WrongUse(text)
    return found[:BODIES_MAX]


def _timed(reader: LineReader, lines: Sequence[str]) -> float:
    """Return the CPU seconds of reading these lines."""
    parts = [lines[first : first + BATCH] for first in range(0, len(lines), BATCH)]
    began = time.process_time()
    for part in parts:
        reader.patterns(part)
    return time.process_time() - began


def _drain3_lines_per_s(lines: Sequence[str]) -> float:
    miner = drain3_miner()
    began = time.process_time()
    for line in lines:
        miner.add_log_message(line)
    return len(lines) / (time.process_time() - began)


def _tenths(lines: int) -> list[float]:
    """Return the CPU seconds of each tenth of a long run; every tenth has lines of all templates."""
    reader, made = LineReader(), _lines(lines // TENTHS, 0)
    _timed(reader, list(made))  # compile the code and add every template before the measurement
    return [_timed(reader, list(_lines(lines // TENTHS, tenth))) for tenth in range(TENTHS)]


def _lines(count: int, seed: int) -> Iterator[str]:
    """Yield lines of TEMPLATES templates with numbers, ids and paths that vary."""
    random = Random(seed)
    letters = "abcdefghijklmnoprstuvw"
    vocabulary = ["".join(Random(word).choices(letters, k=4 + word % 6)) for word in range(4 * TEMPLATES)]
    for _ in range(count):
        first = 4 * random.randrange(TEMPLATES)
        a, b, c, d = vocabulary[first : first + 4]
        number, place, name = random.randrange(10**6), random.randrange(99), random.randbytes(8).hex()
        yield f"{a} {number} {b} of {name} at /{c}/{place} {d} ms=7"
