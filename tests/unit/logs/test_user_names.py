"""Names of users are masked: in sample lines, in templates, and in pattern ids."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from state_schemas.telemetry.logs import LogRecord
from state_schemas.telemetry.resource import Resource
from udfs.logs.masking.masker import MASK_NAMES, Masker, MaskSettings
from udfs.logs.masking.user_names import hide_names
from udfs.logs.reader import LineReader, ReadLine
from udfs.logs.template import template_of

MASKER = Masker()
# Lines as sshd, PAM, sudo, logind, PostgreSQL, MySQL, frameworks and desktop systems write them.
LINES = [
    "Failed password for invalid user NAME from 10.0.0.1 port 38926 ssh2",
    "Failed password for NAME from 10.0.0.1 port 22 ssh2",
    "Accepted gssapi-with-mic for NAME from 10.0.0.1 port 22 ssh2",
    "maximum authentication attempts exceeded for NAME from 10.0.0.1",
    "Invalid user NAME from 10.0.0.1",
    "Connection closed by authenticating user NAME 10.0.0.1 port 22",
    "User NAME from 10.0.0.1 not allowed because not listed in AllowUsers",
    "User NAME not allowed because account is locked",
    "input_userauth_request: invalid user NAME [preauth]",
    "pam_unix(sshd:session): session opened for user root(uid=0) by NAME(uid=1000)",
    "pam_unix(cron:session): session closed for user NAME",
    "authentication failed for user NAME: 7 (Authentication failure)",
    "authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=10.0.0.1  user=NAME",
    "NAME : TTY=pts/0 ; PWD=/srv ; USER=root ; COMMAND=/bin/ls",
    "New session 3 of user NAME.",
    'FATAL:  password authentication failed for user "NAME"',
    "Access denied for user 'NAME'@'10.0.0.1' (using password: YES)",
    'user "NAME": password mismatch',
    "connection authorized: user=NAME database=shop",
    "rejected user=<NAME>, method=PLAIN",
    "login failed for user CORP\\NAME",
    '{"level":"warn","user":"NAME Smith","tries":3}',
    "loaded profile, user_id=NAME cached=no",
    "checkout of enduser.id=NAME refused",
    "user = NAME",
    "User NAME logged in",
    "cannot write /home/NAME/.cache/orders",
    "cannot open C:\\Users\\NAME\\orders.db",
]
NAMES = ["alice", "Bob", "carol.smith", "service-erin", "frank42", "mallory_x", "münchhausen"]


# In the messages of sshd and others these are names too; only as a value, as in `user=none`, they may be none.
NAMES_THAT_ARE_WORDS = ["unknown", "anonymous"]


def read(line: str, reader: LineReader) -> ReadLine:
    return reader.read([LogRecord(Resource("prod", "gate", "host-0"), 0, 13, "WARN", line, "", (), "")])[0]


@pytest.mark.parametrize("text", LINES)
def test_a_name_is_hidden_and_makes_no_pattern_of_its_own(text: str) -> None:
    reader = LineReader()
    found = [read(text.replace("NAME", name), reader) for name in NAMES]
    assert len({line.pattern.pattern_id for line in found}) == 1
    for name, line in zip(NAMES, found, strict=True):
        assert name not in line.line
        assert name not in template_of(line.pattern.texts)


@pytest.mark.parametrize("text", [line for line in LINES if "=" not in line])
def test_a_word_in_the_place_of_a_name_is_one(text: str) -> None:
    reader = LineReader()
    found = {read(text.replace("NAME", name), reader).pattern.pattern_id for name in ("alice", *NAMES_THAT_ARE_WORDS)}
    assert len(found) == 1


@pytest.mark.parametrize(
    "line",
    [
        "check pass; user unknown",
        "Timeout waiting for user confirmation",
        "canceling statement due to user request",
        "could not load user preferences from redis",
        "could not create user:timeout",
        "user not found",
        "Invalid user password",
        "Validation failed: username: required",
        "quota exceeded for user storage",
        "failed to read password for keystore from vault",
        "POST /users/search",
        "superuser=true, user=none",
        "ts-user-service is up for users from abroad",
    ],
)
def test_words_that_are_no_names_stay(line: str) -> None:
    assert hide_names(line.encode()) == line.encode()


def test_names_stay_when_the_mask_is_switched_off() -> None:
    others = LineReader(MaskSettings(tuple(name for name in MASK_NAMES if name != "user")))
    assert read("session closed for user alice", others).line == "session closed for user alice"


words = st.sampled_from(
    ("user", "for", "from", "=", ":", "alice", "/home/", "7", "[", "10.0.0.1", "name", " ", "é", "as")
)


@given(st.lists(words, max_size=12))
def test_hiding_names_twice_equals_hiding_them_once(parts: list[str]) -> None:
    masked_line = hide_names(MASKER.masked_lines(["".join(parts)])[0])
    assert hide_names(masked_line) == masked_line
