"""Masking of lines: which parts are masked, and that no secret of the corpus remains."""

import base64
import string
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from udfs.logs.masking.byte_classes import BLANK, CAPITAL, DIGIT, HEX_LETTER, LETTER, MARK, PUNCT, SIGN, SMALL, kinds_of
from udfs.logs.masking.kernel import MASK_LAST, PAD, mask_lines
from udfs.logs.masking.masker import Masker, MaskSettings
from udfs.logs.template import template_of

MASKER = Masker()


def masked(line: str) -> str:
    return template_of((MASKER.masked_lines([line])[0].decode(),))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("took 5.3 s of -12, 81% at 16:57:09.235", "took <number> of <number>, <number>% at <number>"),
        ("[2017-07-08T02:32:46.123Z] 2017-07-08 02:32:46,787 x", "[<number>] <number> <number> x"),
        ("from 10.0.0.1:80, 10.0.0.1 and fe80::1", "from <ip>, <ip> and <ip>"),
        ("2607:f140:6000:8:c6b3:1ff:fecd:467f AA:BB:0C:00:11:22", "<ip> <ip>"),
        ("id 0673dd71-34c5-4fbb-86c4-40623fbe45b4.", "id <uuid>."),
        ("http://10.0.0.1:8081/a from /10.0.0.1:80, /fe80:0:0:0:fecd:1:2:3", "http://<ip>/a from /<ip>, /<ip>"),
        ("[10/Oct/2023:13:55:36 +0000] 2023/10/11:12:13:14", "[<number>/Oct/<number> <number>] <number>"),
        ("GET /carts/0673dd71-34c5-4fbb-86c4-40623fbe45b4/items", "GET /carts/<uuid>/items"),
        ("at 0x1f iar 02f7a18c ffffffff", "at <hex> iar <hex> <hex>"),
        ("estimated size 6.0 KB, free 874.3 B, 64K", "estimated size <number>, free <number>, <number>"),
        (
            "1 second, 2.5 s, 900 ms, 3 minutes, 5 m of a mile",
            "<number>, <number>, <number>, <number>, <number> m of a mile",
        ),
        ("rdd_42_32 broadcast_40_piece0 node-171", "rdd_<number> broadcast_<number>_piece<number> node-<number>"),
        ("mail of bob.smith+x@mail.example.com, or bob@localhost", "mail of <email>, or bob@localhost"),
        ("table \"orders\" and 'users' don't lock", "table \"<quoted>\" and '<quoted>' don't lock"),
        ('{"message":"hi","n":5}', '{"message":"<quoted>","n":<number>}'),
        ("GET /v2/54fadb412c4e40cdbaed9335e4c35a9e/servers", "GET /v<number>/<hex>/servers"),
        ("a\tb\n  c\x01d", "a b c d"),
        ("Ärger mit größe 5", "Ärger mit größe <number>"),
        ("facade of a deadbeef", "facade of a <hex>"),
        ("ip 9999.1.1.1 v1.2.3 on 2016/9/28", "ip <number> v<number> on <number>"),
        ("", ""),
    ],
)
def test_lines_are_masked_as_expected(line: str, expected: str) -> None:
    assert masked(line) == expected


def test_a_mask_that_is_switched_off_leaves_the_line_as_it_is() -> None:
    only = Masker(MaskSettings(masks=("secret",)))
    assert only.masked_lines(["user 5 at 10.0.0.1 password=hunter2"])[0] == b"user 5 at 10.0.0.1 password=\x08"


def test_a_line_is_read_up_to_its_bound() -> None:
    cut = Masker(MaskSettings(line_bytes_max=8))
    assert cut.masked_lines(["abcdefgh ijk", "ab"]) == [b"abcdefgh", b"ab"]
    assert cut.masked_lines(["größer als", "\udc80\udc80"]) == ["größer".encode(), b"??"]
    assert cut.masked_lines([]) == []


def corpus() -> list[tuple[str, str]]:
    """Return 150 pairs (secret, line with the secret) of 15 kinds. No secret is real."""
    random = Random(7)

    def some(alphabet: str, length: int) -> str:
        return "".join(random.choice(alphabet) for _ in range(length))

    letters, upper = string.ascii_letters + string.digits, string.ascii_uppercase + string.digits
    found = []
    for number in range(10):
        word = some(string.ascii_lowercase, 9)
        part = [base64.urlsafe_b64encode(random.randbytes(size)).decode().rstrip("=") for size in (27, 60, 32)]
        opaque, jwt = some(letters, 16), f"eyJ{part[0]}.{part[1]}.{part[2]}"
        found += [
            (word, f"login failed password={word} for user {number}"),
            (word[::-1], f'config {{"db_password": "{word[::-1]}", "host": "db"}}'),
            (word[1:] + "x", f"connecting to postgres://app:{word[1:]}x@db.internal:5432/shop"),
            (opaque, f"token={opaque} refused"),
            (jwt, f"Authorization: Bearer {jwt}"),
        ]
        bare = (
            f"AKIA{some(upper, 16)}",
            some(letters + "/+", 39) + "7a",
            f"ghp_{some(letters, 36)}",
            f"sk_live_{some(letters, 24)}",
            f"xoxb-{some(string.digits, 11)}-{some(letters, 24)}",
            some("0123456789abcdef", 40),
            " ".join(some(string.digits, 4) for _ in range(4)),
            f"{some(string.digits, 3)}-{some(string.digits, 2)}-{some(string.digits, 4)}",
            f"DE{some(string.digits, 20)}",
            f"{word}.{number}@mail.example.org",
        )
        found += [(secret, f"rejected {secret} at gate") for secret in bare]
    return found


@pytest.mark.parametrize("number", range(10))
def test_no_secret_of_the_corpus_gets_through(number: int) -> None:
    kinds = corpus()[15 * number : 15 * number + 15]
    assert len(kinds) == 15
    for secret, line in kinds:
        assert secret in line
        left = masked(line)
        assert secret not in left, f"{line!r} became {left!r}"
        for part in secret.replace(".", " ").replace("@", " ").split():
            assert len(part) < 6 or part not in left, f"a part of {secret!r} is left in {left!r}"


words = st.text(st.characters(codec="utf-8"), max_size=30)


@given(st.lists(words, max_size=6))
def test_a_line_is_masked_as_if_it_were_alone(lines: list[str]) -> None:
    assert MASKER.masked_lines(lines) == [MASKER.masked_lines([line])[0] for line in lines]


@given(words)
def test_a_masked_line_is_no_longer_than_its_line_and_holds_no_digit(line: str) -> None:
    masked_line = MASKER.masked_lines([line])[0]
    assert len(masked_line) <= len(line.encode(errors="replace"))
    assert not any(byte in b"0123456789" for byte in masked_line)
    assert all(byte >= 32 or 1 <= byte <= 8 for byte in masked_line)
    assert b"  " not in masked_line


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6))
def test_lines_that_differ_in_numbers_alone_have_one_masked_line(a: int, b: int, c: int) -> None:
    lines = [f"block {n} of rdd_{n} stored in {n}.{n} ms by worker{n} (port={n})" for n in (a, b, c)]
    assert len(set(MASKER.masked_lines(lines))) == 1


PARTS = (
    "took", "12.5", "ms", "-7", "0x1f", "02f7a18c", "deadbeef", "facade", "fe80::1", "be:ad::", "10.0.0.1:80",
    "a.b@c.de", "@", "'", "'x'", '"y":', "/v2/", "64K", "grö", "0673dd71-34c5-4fbb-86c4-40623fbe45b4",
    "abcdefab-abcd-abcd-abcd-abcdefabcdef", "Zm9vYmFyIGJhcg-Zm9v1Y", "password", "api-key", "SID", "=", "==",
    "Bearer", "http://a:b@c/", "://", ",", ":", " ", "  ", "\t", "\x01",
)  # fmt: skip


@given(st.lists(st.sampled_from(PARTS), max_size=12).map("".join))
def test_bytes_that_are_not_marked_stay_as_they_are(line: str) -> None:
    """Skipping unmarked bytes gives the same result as reading them."""
    text = np.frombuffer(line.encode() + b"\n" + b" " * PAD, np.uint8)
    kinds, out, stops = np.empty_like(text), np.empty_like(text), np.array([len(text) - PAD - 1])
    kinds_of(text, kinds, out)
    enabled, out_stops = np.ones(MASK_LAST + 1, np.bool_), np.empty(1, np.int64)
    masked_lines = []
    for marked_kinds in (kinds, kinds | MARK):
        mask_lines(text, marked_kinds, stops, enabled, out, out_stops)
        masked_lines.append(out[: out_stops[0]].tobytes())
    assert masked_lines[0] == masked_lines[1]


def test_each_byte_has_one_kind() -> None:
    text = np.arange(256, dtype=np.uint8)
    kinds = np.empty_like(text)
    kinds_of(text, kinds, np.empty_like(text))
    for byte, kind in enumerate((kinds & ~MARK).tolist()):
        sign = chr(byte) if byte < 128 else "ä"
        case = CAPITAL * sign.isascii() * sign.isupper() + SMALL * sign.isascii() * sign.islower()
        if byte < 33 or byte == 127:
            expected = BLANK
        elif sign.isalpha():
            expected = (HEX_LETTER if sign in "abcdefABCDEF" else LETTER) + case
        else:
            expected = DIGIT if sign.isdigit() else SIGN if sign in "+/_-" else PUNCT
        assert kind == expected, f"byte {byte}"
